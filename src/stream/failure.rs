//! What lanes are told of each other's failures (STR-13).

use crate::error::Error;

/// For the lanes beside the one that failed.
pub(super) fn in_lane(lane: usize, error: &Error) -> Error {
    let told = Error::new(error.kind(), format!("another lane failed: {}", error.message()));
    let told = told.with_context("failed lane", lane);
    let told = error.context().fold(told, |told, (key, value)| told.with_context(key, value));
    let told = error.hint().into_iter().fold(told, Error::with_hint);
    told.with_further_hint(
        "this lane's position is behind what it delivered; the stream goes on exactly from the \
         stored position, or from the merged tokens of its lanes",
    )
}

/// For a lane that comes to where it must wait for one that is gone.
pub(super) fn dropped(lane: usize) -> Error {
    Error::invalid("the lane must wait for another one, which was dropped")
        .with_context("dropped lane", lane)
        .with_hint(
            "keep all lanes until the stream ends; it goes on exactly from the stored position, or \
             from the merged tokens of its lanes",
        )
}
