//! Sizes as a person writes them.

use bytesize::ByteSize;

/// With less, work is done in so many passes that it seems to stand still.
const LEAST_MEMORY: ByteSize = ByteSize::mib(1);

/// A number of bytes, with or without a unit.
pub(super) fn size(text: &str) -> Result<ByteSize, String> {
    let size = text.trim().parse::<ByteSize>();
    size.map_err(|_| "it is no size; write such as 512MB or 1GiB".to_string())
}

/// What a reader may hold: whoever writes `512` means no half a kilobyte.
pub(super) fn memory(text: &str) -> Result<ByteSize, String> {
    let memory = size(text)?;
    match memory < LEAST_MEMORY {
        true => Err(format!(
            "that is {memory}, and {LEAST_MEMORY} is the least; write a unit, such as 512MB"
        )),
        false => Ok(memory),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_units_and_refused_in_words() {
        assert_eq!(size("512MB"), Ok(ByteSize::mb(512)));
        assert_eq!(size(" 1 GiB"), Ok(ByteSize::gib(1)));
        assert_eq!(size("77"), Ok(ByteSize::b(77)));
        for none in ["", "lots", "-5", "1 league"] {
            assert!(size(none).unwrap_err().contains("512MB"), "{none}");
        }
    }

    #[test]
    fn memory_without_a_unit_is_not_taken_for_bytes() {
        for little in ["0", "1", "512", "1023KiB"] {
            assert!(memory(little).unwrap_err().contains("a unit, such as 512MB"), "{little}");
        }
        assert_eq!(memory("1MiB"), Ok(ByteSize::mib(1)));
        assert_eq!(memory("99999999999999TB").map(|size| size.as_u64()), Ok(u64::MAX));
    }
}
