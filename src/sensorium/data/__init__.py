"""Tables become a catalogue, people and events: rows inside, ids outside."""
