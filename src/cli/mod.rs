//! What a person at a terminal does.
