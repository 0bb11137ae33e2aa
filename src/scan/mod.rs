//! Which files to read?
