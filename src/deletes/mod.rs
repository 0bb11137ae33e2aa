//! Is this row still alive?
