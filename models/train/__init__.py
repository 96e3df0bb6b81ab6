"""Training of the bundled model: data, tokenizer, autoencoder, U-Net, export and samples."""
