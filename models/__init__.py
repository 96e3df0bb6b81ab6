"""The bundled text-to-image model and the code that trains it."""
