"""Everything that runs on deployed hardware: the desk unit and the classroom gateway."""
