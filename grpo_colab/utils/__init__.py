"""Help every other package: files, processes, the console, the device, the import of the training stack."""
