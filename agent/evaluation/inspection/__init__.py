"""Behind `nearfar inspect`: what a trained agent makes of recorded episodes."""
