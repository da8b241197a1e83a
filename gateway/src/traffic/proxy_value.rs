//! What a proxy said of a connection (PROXY protocol, version 2), by the names that the document has for
//! it: in fields of requests, and in templates of the access log.
//!
//! Must not: let a client say what only a proxy may, or write what is no value of a field.

use cardea_config::model::ProxyValue;

use super::exchange::{Client, Introduction};
use super::headers::{HeaderName, Headers};
use super::proxy_protocol::{Tlvs, kind};

/// What vendors put before an id under their number.
const VENDOR_ID: u8 = 1;

/// What a proxy said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'v> {
    /// Words.
    Bytes(&'v [u8]),
    /// A number, which people write in decimal.
    Number(u64),
}

/// What was said, if it was.
pub fn find(said: &Introduction, which: ProxyValue) -> Option<Said<'_>> {
    let values = said.values();
    let plain = |kind| values.find(kind).map(Said::Bytes);
    let of_tls = |kind| tls(values, kind).map(Said::Bytes);
    match which {
        ProxyValue::Authority => plain(kind::AUTHORITY),
        ProxyValue::Alpn => plain(kind::ALPN),
        ProxyValue::UniqueId => plain(kind::UNIQUE_ID),
        ProxyValue::Namespace => plain(kind::NAMESPACE),
        ProxyValue::Number(kind) => plain(kind),
        ProxyValue::TlsVersion => of_tls(kind::TLS_VERSION),
        ProxyValue::TlsCipher => of_tls(kind::TLS_CIPHER),
        ProxyValue::TlsSignature => of_tls(kind::TLS_SIGNATURE),
        ProxyValue::TlsKey => of_tls(kind::TLS_KEY),
        // A name that was not verified is nobody's.
        ProxyValue::TlsName => of_tls(kind::TLS_COMMON_NAME)
            .filter(|_| values.tls().is_some_and(|tls| tls.is_verified)),
        ProxyValue::AwsVpcEndpoint => vendor_id(values, kind::AWS).map(Said::Bytes),
        ProxyValue::AzurePrivateEndpoint => {
            let id = vendor_id(values, kind::AZURE)?.try_into().ok()?;
            Some(Said::Number(u32::from_le_bytes(id).into()))
        }
        ProxyValue::GcpConnection => {
            let id = values.find(kind::GCP)?.try_into().ok()?;
            Some(Said::Number(u64::from_be_bytes(id)))
        }
    }
}

/// Puts what the proxy said into the fields of a request, in place of whatever the client wrote there.
pub fn tell(fields: &[(HeaderName, ProxyValue)], client: &Client, headers: &mut Headers) {
    for (name, which) in fields {
        let said = client.introduction.as_deref();
        match said.and_then(|said| find(said, *which)) {
            Some(Said::Bytes(value)) if is_field_value(value) => headers.set(name, value),
            Some(Said::Number(number)) => headers.set(name, number.to_string().as_bytes()),
            _ => headers.remove(name),
        }
    }
}

/// Whether bytes can be the value of a field as they are (RFC 9110 section 5.5).
fn is_field_value(bytes: &[u8]) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, None | Some(b' ' | b'\t'));
    let fits = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    !is_blank(bytes.first()) && !is_blank(bytes.last()) && bytes.iter().all(fits)
}

fn tls(values: Tlvs<'_>, kind: u8) -> Option<&[u8]> {
    values.tls()?.tlvs.find(kind)
}

fn vendor_id(values: Tlvs<'_>, kind: u8) -> Option<&[u8]> {
    let (what, id) = values.find(kind)?.split_first()?;
    (*what == VENDOR_ID).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::proxy_protocol::{Tls, push, push_tls};

    fn said(is_verified: bool) -> Introduction {
        let mut inside = Vec::new();
        push(&mut inside, kind::TLS_VERSION, b"TLSv1.3");
        push(&mut inside, kind::TLS_COMMON_NAME, b"Jo");
        push(&mut inside, kind::TLS_CIPHER, b"TLS_AES_128_GCM_SHA256");
        push(&mut inside, kind::TLS_SIGNATURE, b"SHA256");
        push(&mut inside, kind::TLS_KEY, b"EC256");
        let mut values = Vec::new();
        push(&mut values, kind::ALPN, b"h2");
        push(&mut values, kind::AUTHORITY, b"a.test");
        push(&mut values, kind::UNIQUE_ID, b"id-1");
        push_tls(
            &mut values,
            &Tls {
                client: 7,
                is_verified,
                tlvs: Tlvs(&inside),
            },
        );
        push(&mut values, kind::NAMESPACE, b"blue");
        push(&mut values, kind::AWS, b"\x01vpce-08d2bf15fac5001c9");
        push(&mut values, kind::AZURE, b"\x01\x01\x02\0\0");
        push(&mut values, kind::GCP, &0x1_0000_0002_u64.to_be_bytes());
        push(&mut values, 0xe5, b"own");
        Introduction {
            proxy: "10.0.0.9:5".parse().unwrap(),
            destination: None,
            values: values.into(),
        }
    }

    #[test]
    fn everything_is_found_by_its_name() {
        let (verified, unverified) = (said(true), said(false));
        let check = |name: &str, expected: &str| {
            let which = name.parse().unwrap();
            let found = match find(&verified, which).expect(name) {
                Said::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Said::Number(number) => number.to_string(),
            };
            assert_eq!(found, expected, "{name}");
        };
        check("authority", "a.test");
        check("alpn", "h2");
        check("unique_id", "id-1");
        check("tls_version", "TLSv1.3");
        check("tls_cipher", "TLS_AES_128_GCM_SHA256");
        check("tls_signature", "SHA256");
        check("tls_key", "EC256");
        check("tls_name", "Jo");
        check("namespace", "blue");
        check("aws_vpc_endpoint", "vpce-08d2bf15fac5001c9");
        check("azure_private_endpoint", "513");
        check("gcp_connection", "4294967298");
        check("0xe5", "own");
        check("0xea", "\u{1}vpce-08d2bf15fac5001c9");
        assert_eq!(find(&unverified, ProxyValue::TlsName), None);
        assert!(find(&unverified, ProxyValue::TlsVersion).is_some());
        assert_eq!(find(&verified, ProxyValue::Number(0xe6)), None);
    }

    #[test]
    fn ids_that_are_none_are_not_told() {
        let check = |kind: u8, value: &[u8], which: ProxyValue| {
            let mut values = Vec::new();
            push(&mut values, kind, value);
            let said = Introduction {
                values: values.into(),
                ..said(true)
            };
            assert_eq!(find(&said, which), None, "{}", value.escape_ascii());
        };
        check(kind::AWS, b"", ProxyValue::AwsVpcEndpoint);
        check(kind::AWS, b"\x02vpce-1", ProxyValue::AwsVpcEndpoint);
        check(
            kind::AZURE,
            b"\x01\x01\x02\0",
            ProxyValue::AzurePrivateEndpoint,
        );
        check(
            kind::AZURE,
            b"\x02\x01\x02\0\0",
            ProxyValue::AzurePrivateEndpoint,
        );
        check(kind::GCP, b"\x01", ProxyValue::GcpConnection);
    }

    #[test]
    fn values_of_fields() {
        for good in ["a", "a b\tc", "J\u{fc}rgen", "\"{}\""] {
            assert!(is_field_value(good.as_bytes()), "{good:?}");
        }
        for bad in [
            "",
            " a",
            "a ",
            "\ta",
            "a\r\nb",
            "a\0",
            "\u{7f}",
            "\u{1}vpce",
        ] {
            assert!(!is_field_value(bad.as_bytes()), "{bad:?}");
        }
    }
}
