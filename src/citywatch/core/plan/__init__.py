"""What a task is held to: plans (`contract`) and rules over what happened before (`temporal`)."""
