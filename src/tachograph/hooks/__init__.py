"""What an agent's plug-in wrote to its spool -> Batch; one file for each agent, all meaning made here."""
