//! Compression of Avro blocks.

use std::io::{Read, Write};

use crate::error::{Error, Result};

/// How the blocks of a manifest are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ManifestCodec {
    /// As they are.
    Uncompressed,
    /// Raw deflate, which table properties call `gzip`: what every reader knows.
    #[default]
    Deflate,
    /// Zstandard.
    Zstd,
    /// Snappy with a checksum.
    Snappy,
}

impl ManifestCodec {
    /// The codec that a table property names: `gzip`, `deflate`, `uncompressed`, `none`,
    /// `zstd` or `snappy`, in any case.
    ///
    /// # Errors
    /// `InvalidInput` for any other name.
    pub fn from_property(name: &str) -> Result<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "gzip" | "deflate" => Ok(Self::Deflate),
            "uncompressed" | "none" | "null" => Ok(Self::Uncompressed),
            "zstd" | "zstandard" => Ok(Self::Zstd),
            "snappy" => Ok(Self::Snappy),
            _ => Err(Error::invalid(format!("`{name}` is not a codec for manifests"))
                .with_hint("use gzip, zstd, snappy or uncompressed")),
        }
    }

    /// The codec by its Avro name.
    pub(super) fn from_avro(name: &[u8]) -> Result<Self> {
        match name {
            b"null" | b"" => Ok(Self::Uncompressed),
            b"deflate" => Ok(Self::Deflate),
            b"zstandard" => Ok(Self::Zstd),
            b"snappy" => Ok(Self::Snappy),
            other => Err(Error::unsupported(format!(
                "Avro codec `{}` is not supported",
                String::from_utf8_lossy(other)
            ))),
        }
    }

    /// The name that Avro headers use.
    pub(super) fn avro_name(self) -> &'static str {
        match self {
            Self::Uncompressed => "null",
            Self::Deflate => "deflate",
            Self::Zstd => "zstandard",
            Self::Snappy => "snappy",
        }
    }

    /// Appends the compressed form of `raw` to `out`.
    pub(super) fn compress(self, raw: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let failed = |e: std::io::Error| Error::internal("compression failed").with_source(e);
        match self {
            Self::Uncompressed => out.extend_from_slice(raw),
            Self::Deflate => {
                // Level 2 packs manifests within 5 % of level 6 in half the time.
                let mut encoder =
                    flate2::write::DeflateEncoder::new(out, flate2::Compression::new(2));
                encoder.write_all(raw).map_err(failed)?;
                encoder.finish().map_err(failed)?;
            }
            Self::Zstd => zstd::stream::copy_encode(raw, out, 3).map_err(failed)?,
            Self::Snappy => {
                let packed = snap::raw::Encoder::new()
                    .compress_vec(raw)
                    .map_err(|e| Error::internal("compression failed").with_source(e))?;
                out.extend_from_slice(&packed);
                out.extend_from_slice(&crc32(raw).to_be_bytes());
            }
        }
        Ok(())
    }

    /// Replaces `out` by the original of `packed`, which may take up to `limit` bytes.
    pub(super) fn decompress(self, packed: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<()> {
        out.clear();
        match self {
            Self::Uncompressed => out.extend_from_slice(packed),
            Self::Deflate => {
                inflate(flate2::bufread::DeflateDecoder::new(packed), out, limit)?;
            }
            Self::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(broken)?;
                inflate(decoder, out, limit)?;
            }
            Self::Snappy => unsnap(packed, out, limit)?,
        }
        if out.len() > limit {
            return Err(Error::corrupt("Avro block unpacks to an absurd size"));
        }
        Ok(())
    }
}

fn broken(e: std::io::Error) -> Error {
    Error::corrupt("Avro block cannot be unpacked").with_source(e)
}

/// Reads one byte past the limit at most, so that a bomb is noticed before it fills memory.
fn inflate(source: impl Read, out: &mut Vec<u8>, limit: usize) -> Result<()> {
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    source.take(most).read_to_end(out).map_err(broken)?;
    Ok(())
}

fn unsnap(packed: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<()> {
    let corrupt = |e: snap::Error| Error::corrupt("Avro block cannot be unpacked").with_source(e);
    let Some((body, checksum)) = packed.split_last_chunk::<4>() else {
        return Err(Error::corrupt("snappy block has no checksum"));
    };
    // The length is only claimed; snappy cannot pack tighter than 64 bytes into 3.
    let length = snap::raw::decompress_len(body).map_err(corrupt)?;
    if length > limit || length > body.len().saturating_mul(32) {
        return Err(Error::corrupt("Avro block unpacks to an absurd size"));
    }
    out.resize(length, 0);
    snap::raw::Decoder::new().decompress(body, out).map_err(corrupt)?;
    if crc32(out) != u32::from_be_bytes(*checksum) {
        return Err(Error::corrupt("checksum of a snappy block does not match"));
    }
    Ok(())
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ManifestCodec; 4] = [
        ManifestCodec::Uncompressed,
        ManifestCodec::Deflate,
        ManifestCodec::Zstd,
        ManifestCodec::Snappy,
    ];

    #[test]
    fn every_codec_gives_back_what_it_took() {
        for codec in ALL {
            for raw in [&b""[..], b"a", &[7; 10_000]] {
                let (mut packed, mut back) = (Vec::new(), Vec::new());
                codec.compress(raw, &mut packed).unwrap();
                codec.decompress(&packed, &mut back, raw.len()).unwrap();
                assert_eq!(back, raw, "{codec:?}");
                assert_eq!(ManifestCodec::from_avro(codec.avro_name().as_bytes()).unwrap(), codec);
            }
        }
    }

    #[test]
    fn a_bomb_is_noticed_at_the_limit() {
        for codec in ALL {
            let (mut packed, mut out) = (Vec::new(), Vec::new());
            codec.compress(&vec![0; 1 << 20], &mut packed).unwrap();
            let error = codec.decompress(&packed, &mut out, 1000).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::CorruptData, "{codec:?}");
            assert!(codec == ManifestCodec::Uncompressed || out.capacity() < 1 << 19);
        }
    }
}
