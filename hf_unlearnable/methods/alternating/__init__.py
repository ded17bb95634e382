"""The alternation that MI-UE and EM share: its settings, its networks, its schedules."""
