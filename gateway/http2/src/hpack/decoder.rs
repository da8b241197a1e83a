//! Header blocks to fields: one decoder for what one peer sends on one connection.
//!
//! It does not hold blocks back, join fragments or limit what fields may add up to: a block that
//! refers to a large entry again and again stands for far more than its own size, and the sink
//! has to count.

use super::dynamic_table::DynamicTable;
use super::reader::Reader;
use super::{HpackError, TABLE_BYTES_INITIAL, static_table};

/// Decodes the header blocks of a connection, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: DynamicTable,
    table_bytes_max: u32,
    /// Strings of the field at hand that are not in the block as they are.
    scratch: Vec<u8>,
}

/// Room that is kept for the next block. A block with longer strings allocates; a connection at
/// rest does not hold on to what one such block needed.
const SCRATCH_BYTES_KEPT: usize = 4096;

/// How often a block may resize the table: to the smallest size there was since the last block,
/// and to the current one (RFC 7541 section 4.2).
const TABLE_UPDATES_MAX: usize = 2;

impl Decoder {
    /// For a peer that was told `table_bytes_max` as SETTINGS_HEADER_TABLE_SIZE.
    ///
    /// A table begins with the 4096 bytes of the protocol, or with less if the limit is less; the
    /// peer says when it makes use of more (RFC 7541 section 4.2). Do not go below 4096 on a new
    /// connection: what the peer sends before it has seen the settings may rely on that much.
    pub(crate) fn new(table_bytes_max: u32) -> Self {
        Self {
            table: DynamicTable::new(table_bytes_max.min(TABLE_BYTES_INITIAL)),
            table_bytes_max,
            scratch: Vec::new(),
        }
    }

    /// Decodes a complete header block, and gives name and value of each field to `sink`.
    ///
    /// A sink that wants no more of a block has to let the rest pass, because every block changes
    /// the table that later ones refer to.
    ///
    /// # Errors
    /// When the block breaks RFC 7541 or the sink fails. Nothing more can be decoded after that.
    pub(crate) fn decode<E: From<HpackError>>(
        &mut self,
        block: &[u8],
        mut sink: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut reader = Reader::new(block);
        self.resize_table(&mut reader)?;
        while let Some(first) = reader.byte() {
            // RFC 7541 section 6: the leading bits tell what it is, the others begin its index.
            match first {
                0b1000_0000.. => {
                    let index = reader.integer(first, 7)?;
                    let (name, value) = self.field(index)?;
                    sink(name, value)?;
                }
                0b0100_0000.. => {
                    let index = reader.integer(first, 6)?;
                    let (name, value) =
                        literal(&self.table, &mut self.scratch, &mut reader, index)?;
                    self.table.insert(name, value);
                    sink(name, value)?;
                }
                0b0010_0000.. => return Err(HpackError::TableUpdateLate.into()),
                // Never indexed or just not indexed: that differs only for who compresses again.
                _ => {
                    let index = reader.integer(first, 4)?;
                    let (name, value) =
                        literal(&self.table, &mut self.scratch, &mut reader, index)?;
                    sink(name, value)?;
                }
            }
        }
        if self.scratch.capacity() > SCRATCH_BYTES_KEPT {
            self.scratch.clear();
            self.scratch.shrink_to(SCRATCH_BYTES_KEPT);
        }
        Ok(())
    }

    /// Takes the size updates from the start of a block (RFC 7541 sections 4.2 and 6.3).
    fn resize_table(&mut self, reader: &mut Reader<'_>) -> Result<(), HpackError> {
        let mut count = 0;
        while let Some(first @ 0b0010_0000..0b0100_0000) = reader.peek() {
            if count == TABLE_UPDATES_MAX {
                return Err(HpackError::TableUpdateRepeated);
            }
            count += 1;
            reader.byte();
            let bytes = reader.integer(first, 5)?;
            if bytes > self.table_bytes_max {
                return Err(HpackError::TableUpdateTooLarge {
                    bytes,
                    bytes_max: self.table_bytes_max,
                });
            }
            self.table.resize(bytes);
        }
        Ok(())
    }

    fn field(&self, index: u32) -> Result<(&[u8], &[u8]), HpackError> {
        if let Some(entry) = static_table::entry(index) {
            return Ok((entry.name, entry.value));
        }
        dynamic_field(&self.table, index)
    }
}

/// Takes a literal field whose name is that of `index`, or follows if that is 0 (RFC 7541
/// section 6.2).
///
/// A name from the dynamic table is copied: inserting the field may evict it (section 4.4).
fn literal<'field, 'block: 'field>(
    table: &DynamicTable,
    scratch: &'field mut Vec<u8>,
    reader: &mut Reader<'block>,
    index: u32,
) -> Result<(&'field [u8], &'field [u8]), HpackError> {
    scratch.clear();
    let name = if index == 0 {
        reader.string(scratch)?
    } else if let Some(entry) = static_table::entry(index) {
        Some(entry.name)
    } else {
        let (name, _) = dynamic_field(table, index)?;
        scratch.extend_from_slice(name);
        None
    };
    let name_bytes = scratch.len();
    let value = reader.string(scratch)?;
    let (scratch_name, scratch_value) = scratch
        .split_at_checked(name_bytes)
        .expect("a string is appended");
    Ok((name.unwrap_or(scratch_name), value.unwrap_or(scratch_value)))
}

fn dynamic_field(table: &DynamicTable, index: u32) -> Result<(&[u8], &[u8]), HpackError> {
    let Some(place) = index.checked_sub(static_table::INDEX_MAX + 1) else {
        return Err(HpackError::IndexZero);
    };
    table.field(place).ok_or(HpackError::IndexUnknown(index))
}

#[cfg(test)]
impl Decoder {
    pub(super) fn table(&self) -> &DynamicTable {
        &self.table
    }

    pub(super) fn scratch_capacity(&self) -> usize {
        self.scratch.capacity()
    }
}
