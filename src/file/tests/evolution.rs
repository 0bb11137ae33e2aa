//! Old files under new schemas.
