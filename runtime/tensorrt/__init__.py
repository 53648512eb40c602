"""Plans: building, keeping and running them with TensorRT 10.3 to 11 or TensorRT for RTX."""
