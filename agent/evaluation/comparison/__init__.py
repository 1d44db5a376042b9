"""Behind `nearfar curves`: runs and tables of other projects, compared."""
