//! What holds for every input: compared with models too simple to be wrong.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;

use super::dynamic_table::DynamicTable;
use super::*;

type Field = (Vec<u8>, Vec<u8>);

/// A dynamic table as the RFC describes it.
#[derive(Debug)]
struct Model {
    entries: VecDeque<Field>,
    size_max: usize,
}

impl Model {
    fn size(&self) -> usize {
        let sizes = self.entries.iter().map(|(n, v)| n.len() + v.len() + 32);
        sizes.sum()
    }

    fn insert(&mut self, field: Field) {
        self.entries.push_front(field);
        self.evict();
    }

    fn resize(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.evict();
    }

    fn evict(&mut self) {
        while self.size() > self.size_max {
            self.entries.pop_back();
        }
    }

    fn check(&self, table: &DynamicTable) {
        let fields = (0..).map_while(|index| table.field(index));
        let fields: Vec<Field> = fields.map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
        assert_eq!(fields, Vec::from(self.entries.clone()));
        assert_eq!(table.len(), self.entries.len());
        assert_eq!(table.size() as usize, self.size());
        let (bytes, _) = table.capacity();
        assert!(bytes <= self.size_max, "{bytes} of {}", self.size_max);
    }
}

#[derive(Debug, Clone)]
enum Change {
    Insert(Field),
    Resize(u32),
}

/// Mostly short, as fields are; sometimes larger than a table.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(any::<u8>(), 0..24),
        4 => "[ -~]{0,40}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..700),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        9 => (bytes(), bytes()).prop_map(Change::Insert),
        1 => prop_oneof![Just(0), 0..4000_u32].prop_map(Change::Resize),
    ]
}

/// How a field is sent.
#[derive(Debug, Clone)]
struct Sent {
    field: Field,
    /// The leading bits and how many bits they leave for the index.
    form: (u8, u32),
    coded: bool,
    /// Chooses an entry to take the name or all of the field from, if there is one.
    pick: Option<(prop::sample::Index, bool)>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let form = prop::sample::select(vec![(0x40, 6), (0x40, 6), (0x40, 6), (0x00, 4), (0x10, 4)]);
    let pick = proptest::option::of(any::<(prop::sample::Index, bool)>());
    ((bytes(), bytes()), form, any::<bool>(), pick).prop_map(|(field, form, coded, pick)| Sent {
        field,
        form,
        coded,
        pick,
    })
}

fn write_integer(out: &mut Vec<u8>, (pattern, bits): (u8, u32), value: usize) {
    let max = (1 << bits) - 1;
    if value < max {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | max as u8);
    let mut rest = value - max;
    while rest >= 128 {
        out.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    out.push(rest as u8);
}

fn write_string(out: &mut Vec<u8>, text: &[u8], coded: bool) {
    if !coded {
        write_integer(out, (0, 7), text.len());
        out.extend(text);
        return;
    }
    let mut code = Vec::new();
    huffman::encode(text, &mut code);
    write_integer(out, (0x80, 7), code.len());
    out.extend(code);
}

/// Appends a field as an encoder with this table would, and returns what it says.
fn write(out: &mut Vec<u8>, model: &mut Model, sent: Sent) -> Field {
    let (mut name, value) = sent.field;
    let mut name_index = 0;
    if let Some((pick, whole)) = sent.pick {
        let index = 1 + pick.index(61 + model.entries.len());
        let (known_name, known_value) = match index.checked_sub(62) {
            Some(place) => model.entries[place].clone(),
            None => {
                let entry = static_table::entry(index as u32).expect("within the table");
                (entry.name.to_vec(), entry.value.to_vec())
            }
        };
        if whole {
            write_integer(out, (0x80, 7), index);
            return (known_name, known_value);
        }
        (name, name_index) = (known_name, index);
    }
    write_integer(out, sent.form, name_index);
    if name_index == 0 {
        write_string(out, &name, sent.coded);
    }
    write_string(out, &value, sent.coded);
    if sent.form.0 == 0x40 {
        model.insert((name.clone(), value.clone()));
    }
    (name, value)
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Field>, HpackError> {
    let mut fields = Vec::new();
    decoder.decode(block, |name, value| {
        fields.push((name.to_vec(), value.to_vec()));
        Ok::<_, HpackError>(())
    })?;
    Ok(fields)
}

proptest! {
    #[test]
    fn the_table_is_that_of_the_model(
        changes in vec(change(), 0..200),
        size_max in 0..4000_u32,
        removed in prop_oneof![Just(0), Just(u32::MAX - 1000)],
    ) {
        let mut table = DynamicTable::aged(size_max, removed);
        let mut model = Model { entries: VecDeque::new(), size_max: size_max as usize };
        for change in changes {
            match change {
                Change::Insert((name, value)) => {
                    table.insert(&name, &value);
                    model.insert((name, value));
                }
                Change::Resize(size_max) => {
                    table.resize(size_max);
                    model.resize(size_max as usize);
                }
            }
            model.check(&table);
        }
    }

    #[test]
    fn blocks_of_any_encoder_are_understood(
        blocks in vec((proptest::option::of(0..600_u32), vec(sent(), 0..12)), 1..12),
    ) {
        let mut decoder = Decoder::new(600);
        let mut model = Model { entries: VecDeque::new(), size_max: 600 };
        for (resize, fields) in blocks {
            let mut block = Vec::new();
            if let Some(size_max) = resize {
                write_integer(&mut block, (0x20, 5), size_max as usize);
                model.resize(size_max as usize);
            }
            let mut expected = Vec::new();
            for sent in fields {
                expected.push(write(&mut block, &mut model, sent));
            }
            prop_assert_eq!(decode(&mut decoder, &block), Ok(expected));
            model.check(decoder.table());
        }
    }

    #[test]
    fn arbitrary_blocks_do_no_harm(
        blocks in vec(vec(any::<u8>(), 0..200), 0..8),
        table_bytes_max in 0..1000_u32,
    ) {
        let mut decoder = Decoder::new(table_bytes_max);
        for block in blocks {
            let _ = decode(&mut decoder, &block);
            prop_assert!(decoder.table().size() <= table_bytes_max);
            prop_assert!(decoder.table().capacity().0 <= table_bytes_max as usize);
        }
    }

    /// Damage to a valid block gets further into the decoder than noise does.
    #[test]
    fn damaged_blocks_do_no_harm(
        fields in vec(sent(), 1..12),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut model = Model { entries: VecDeque::new(), size_max: 600 };
        let mut block = Vec::new();
        for sent in fields {
            write(&mut block, &mut model, sent);
        }
        for (at, byte) in damage {
            let at = at.index(block.len());
            block[at] = byte;
        }
        let mut decoder = Decoder::new(600);
        let _ = decode(&mut decoder, &block);
        prop_assert!(decoder.table().size() <= 600);
    }

    #[test]
    fn what_is_encoded_is_decoded(
        blocks in vec((100..1000_u16, vec((bytes(), bytes()), 0..12)), 1..4),
        table_bytes_max in 0..8192_u32,
    ) {
        let mut encoder = Encoder::default();
        encoder.set_table_bytes_max(table_bytes_max);
        let mut decoder = Decoder::new(4096);
        for (status, fields) in blocks {
            let mut block = Vec::new();
            encoder.begin(&mut block);
            encoder.status(&mut block, status);
            let mut expected = vec![(b":status".to_vec(), status.to_string().into_bytes())];
            for (name, value) in fields {
                encoder.field(&mut block, &name, &value);
                expected.push((name.to_ascii_lowercase(), value));
            }
            prop_assert_eq!(decode(&mut decoder, &block), Ok(expected));
            prop_assert_eq!(decoder.table().len(), 0);
        }
    }

    #[test]
    fn huffman_code_is_reversible(text in bytes()) {
        let (mut code, mut decoded) = (Vec::new(), Vec::new());
        huffman::encode(&text, &mut code);
        prop_assert_eq!(huffman::decode(&code, &mut decoded), Ok(()));
        prop_assert_eq!(decoded, text);
    }

    /// No two codes mean the same, and nothing else is accepted.
    #[test]
    fn huffman_code_is_unique(code in vec(prop_oneof![any::<u8>(), Just(0xff)], 0..40)) {
        let (mut decoded, mut again) = (Vec::new(), Vec::new());
        if huffman::decode(&code, &mut decoded).is_ok() {
            huffman::encode(&decoded, &mut again);
            prop_assert_eq!(again, code);
        }
    }
}
