"""Who is calling: papers and keys in, a verified name out. Says nothing of what that name may do."""
