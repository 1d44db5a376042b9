"""Behind `nearfar probe`: what encoders know of recorded episodes."""
