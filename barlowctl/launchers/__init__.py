"""How several processes of the command line are started: the ranks of a run, the cells of a study, a Slurm job."""
