//! The hash behind keys and places in a table: FNV-1a, finished with the mixer of MurmurHash3.
//!
//! It is written out here because its results are a promise: gateways of different builds send
//! one key to one endpoint, which the standard library's hasher does not offer. It resists nobody
//! who chooses keys on purpose; all they can choose is the endpoint that serves them.
//!
//! Must not: change. A new hash moves every client of every upstream that balances by key.

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The hash of a key, every bit of it usable.
pub fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(FNV_OFFSET, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME)
    });
    mix(fnv)
}

/// The hash of a hash and a number: the places of one member in a table.
pub fn hash_with(identity: u64, number: u64) -> u64 {
    mix(identity ^ mix(number.wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another build, or another gateway, must place these keys alike.
    #[test]
    fn hashes_are_a_promise() {
        let check = |key: &str, expected: u64| assert_eq!(hash(key.as_bytes()), expected, "{key}");
        check("", 0xefd0_1f60_ba99_2926);
        check("10.0.0.1", 0xc879_e56d_dc6c_5c88);
        check("/shop/cart", 0xcfe2_d4df_b737_0322);
        check("session-42", 0x3e6c_fda4_2145_251e);
    }

    #[test]
    fn near_keys_part_in_half_of_their_bits() {
        let flipped: u32 = (0..1000u32)
            .map(|number| {
                let near = hash(format!("10.0.0.{number}").as_bytes());
                (near ^ hash(format!("10.0.1.{number}").as_bytes())).count_ones()
            })
            .sum();
        assert!(
            (31_000..33_000).contains(&flipped),
            "{flipped} of 64000 bits"
        );
    }
}
