"""Identity: users, keys, sessions, grants, and who a credential stands for."""
