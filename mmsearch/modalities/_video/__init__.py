"""Parts of the modality of films: containers, frames, and the shots that they form."""
