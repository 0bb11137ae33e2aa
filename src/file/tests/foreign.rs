//! Files as other writers make them, and broken ones.
