//! The container around Avro records: magic, header, blocks between sync markers.

use std::collections::HashMap;

use super::codec::ManifestCodec;
use super::cursor::Cursor;
use super::schema::Schema;
use super::{put_bytes, put_long};
use crate::error::{Error, Result};

const MAGIC: [u8; 4] = *b"Obj\x01";
/// Blocks are closed at about this size, as the reference implementation does.
const BLOCK_BYTES: usize = 64 * 1024;

/// Reads a container file block by block.
#[derive(Debug)]
pub(in crate::manifest) struct ContainerReader<'a> {
    /// The schema the file was written with.
    pub(in crate::manifest) schema: Schema,
    /// Everything in the header, `avro.` keys included.
    pub(in crate::manifest) header: HashMap<&'a str, &'a [u8]>,
    codec: ManifestCodec,
    sync: [u8; 16],
    cursor: Cursor<'a>,
    block: Vec<u8>,
    /// What all further blocks together may still unpack to (MAN-1).
    budget: usize,
}

impl<'a> ContainerReader<'a> {
    /// Reads the header.
    pub(in crate::manifest) fn open(bytes: &'a [u8]) -> Result<Self> {
        let mut cursor = Cursor::new(bytes);
        if cursor.array::<4>().ok() != Some(MAGIC) {
            return Err(Error::corrupt("not an Avro container file"));
        }
        let header = read_header(&mut cursor)?;
        let sync = cursor.array::<16>()?;
        let codec = ManifestCodec::from_avro(header.get("avro.codec").copied().unwrap_or(b""))?;
        let Some(schema) = header.get("avro.schema") else {
            return Err(Error::corrupt("Avro header has no schema"));
        };
        let schema = Schema::parse(schema)?;
        let budget = (16 << 20) + bytes.len().saturating_mul(128);
        Ok(Self { schema, header, codec, sync, cursor, block: Vec::new(), budget })
    }

    /// A header value as text.
    pub(in crate::manifest) fn text(&self, key: &str) -> Option<&'a str> {
        std::str::from_utf8(self.header.get(key)?).ok()
    }

    /// Hands every block to `each` as (record count, bytes), in file order.
    pub(in crate::manifest) fn for_each_block(
        &mut self,
        mut each: impl FnMut(&Schema, usize, &mut Cursor<'_>) -> Result<()>,
    ) -> Result<()> {
        while self.cursor.remaining() > 0 {
            let count = self.cursor.long()?;
            let packed = self.cursor.bytes()?;
            if self.cursor.array::<16>()? != self.sync {
                return Err(Error::corrupt("Avro block does not end in the sync marker"));
            }
            self.codec.decompress(packed, &mut self.block, self.budget)?;
            self.budget -= self.block.len();
            let mut records = Cursor::new(&self.block);
            match usize::try_from(count) {
                Ok(n) if n <= self.block.len() => each(&self.schema, n, &mut records)?,
                _ => return Err(Error::corrupt("Avro block claims more records than bytes")),
            }
            if records.remaining() > 0 {
                return Err(Error::corrupt("Avro block is longer than its records"));
            }
        }
        Ok(())
    }
}

fn read_header<'a>(cursor: &mut Cursor<'a>) -> Result<HashMap<&'a str, &'a [u8]>> {
    let mut header = HashMap::new();
    loop {
        let count = cursor.item_count()?;
        if count == 0 {
            return Ok(header);
        }
        for _ in 0..count {
            header.insert(cursor.string()?, cursor.bytes()?);
        }
    }
}

/// Writes a container file into memory.
#[derive(Debug)]
pub(in crate::manifest) struct ContainerWriter {
    out: Vec<u8>,
    block: Vec<u8>,
    packed: Vec<u8>,
    count: i64,
    codec: ManifestCodec,
    sync: [u8; 16],
}

impl ContainerWriter {
    /// Starts a file. `seed` makes the sync marker: it need not be secret, only unlikely to
    /// appear in the data, and a fixed one keeps files reproducible.
    pub(in crate::manifest) fn new(
        schema: &str,
        header: &[(&str, &str)],
        codec: ManifestCodec,
        seed: u64,
    ) -> Self {
        let mut out = MAGIC.to_vec();
        put_long(&mut out, header.len() as i64 + 2);
        let own = [("avro.schema", schema), ("avro.codec", codec.avro_name())];
        for (key, value) in own.iter().chain(header) {
            put_bytes(&mut out, key.as_bytes());
            put_bytes(&mut out, value.as_bytes());
        }
        put_long(&mut out, 0);
        let sync = sync_marker(seed, &out);
        out.extend_from_slice(&sync);
        let block = Vec::with_capacity(BLOCK_BYTES + 4096);
        Self { out, block, packed: Vec::new(), count: 0, codec, sync }
    }

    /// Adds one record, which `encode` appends to the block.
    pub(in crate::manifest) fn record(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let start = self.block.len();
        if let Err(error) = encode(&mut self.block) {
            self.block.truncate(start); // half a record must not stay
            return Err(error);
        }
        self.count += 1;
        if self.block.len() >= BLOCK_BYTES { self.close_block() } else { Ok(()) }
    }

    /// Bytes so far, the open block unpacked.
    pub(in crate::manifest) fn len(&self) -> usize {
        self.out.len() + self.block.len()
    }

    /// The file.
    pub(in crate::manifest) fn finish(mut self) -> Result<Vec<u8>> {
        self.close_block()?;
        Ok(self.out)
    }

    fn close_block(&mut self) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        self.packed.clear();
        self.codec.compress(&self.block, &mut self.packed)?;
        put_long(&mut self.out, self.count);
        put_bytes(&mut self.out, &self.packed);
        self.out.extend_from_slice(&self.sync);
        self.block.clear();
        self.count = 0;
        Ok(())
    }
}

fn sync_marker(seed: u64, header: &[u8]) -> [u8; 16] {
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    for byte in header {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(mixed ^ (mixed >> 31))
    };
    (next() << 64 | next()).to_be_bytes()
}
