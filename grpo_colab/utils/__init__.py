"""The ground that every wing stands on: files, processes, the console, the device, the training stack."""
