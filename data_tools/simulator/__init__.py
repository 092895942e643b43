"""The simulator's rooms: a head, a night, what goes on all the time and what happens now and then."""
