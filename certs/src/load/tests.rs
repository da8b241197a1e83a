//! Every way in which two files can be no certificate, and what is said about it.

use std::fmt::Write;

use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};

use super::*;
use crate::testing::{Authority, DAY, Wish, directory, pem, write};

/// Loads a chain and a key given as text.
fn load_texts(chain: &str, key: &str) -> Result<Certificate, Error> {
    let (_directory, path) = directory();
    write(&path.join("chain.pem"), chain);
    write(&path.join("key.pem"), key);
    load(&path.join("chain.pem"), &path.join("key.pem"))
}

fn wish<'a>(names: &'a [&'a str]) -> Wish<'a> {
    Wish {
        names,
        ..Wish::default()
    }
}

#[test]
fn takes_out_what_operators_want_to_see() {
    let authority = Authority::new("Some Authority");
    let names = [
        "Shop.Example.com",
        "*.shop.example.com",
        "192.0.2.7",
        "2001:db8::7",
    ];
    let wish = Wish {
        not_before: 1_700_000_000,
        not_after: 4_000_000_000,
        ..wish(&names)
    };
    let issued = authority.issue(&wish);
    let details = load_texts(&issued.chain, &issued.key).unwrap().details;
    let names: Vec<&str> = details.names.iter().map(|name| &**name).collect();
    assert_eq!(names, ["shop.example.com", "*.shop.example.com"]);
    let addresses: Vec<String> = details.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["192.0.2.7", "2001:db8::7"]);
    assert_eq!(details.not_before.as_secs(), 1_700_000_000);
    assert_eq!(details.not_after.as_secs(), 4_000_000_000);
    assert_eq!(details.subject, "CN=leaf");
    assert_eq!(details.issuer, "CN=Some Authority");
    assert_eq!(details.key, SignatureAlgorithm::ECDSA);
    assert!(details.serial.len() > 8 && !details.serial.starts_with("00"));
}

#[test]
fn loads_every_kind_of_key() {
    let authority = Authority::new("authority");
    let check = |algorithm, expected: SignatureAlgorithm, schemes: usize| {
        let wish = Wish {
            algorithm,
            ..wish(&["a.test"])
        };
        let issued = authority.issue(&wish);
        let certificate = load_texts(&issued.chain, &issued.key).unwrap();
        assert_eq!(certificate.details.key, expected);
        assert_eq!(certificate.schemes.len(), schemes);
    };
    check(&rcgen::PKCS_ECDSA_P256_SHA256, SignatureAlgorithm::ECDSA, 1);
    check(&PKCS_ECDSA_P384_SHA384, SignatureAlgorithm::ECDSA, 1);
    check(&PKCS_ED25519, SignatureAlgorithm::ED25519, 1);
    check(&PKCS_RSA_SHA256, SignatureAlgorithm::RSA, 6);
}

/// PKCS #8 is a wrapper: inside is the key as PKCS #1 or SEC 1 has it.
#[test]
fn loads_keys_in_older_formats() {
    let authority = Authority::new("authority");
    let check = |algorithm, label: &str| {
        let issued = authority.issue(&Wish {
            algorithm,
            ..wish(&["a.test"])
        });
        let wrapped = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let (_, parsed) = x509_parser::der_parser::parse_der(wrapped.secret_der()).unwrap();
        let inside = parsed.as_sequence().unwrap()[2].as_slice().unwrap();
        load_texts(&issued.chain, &pem(label, inside)).unwrap();
    };
    check(&rcgen::PKCS_ECDSA_P256_SHA256, "EC PRIVATE KEY");
    check(&PKCS_ECDSA_P384_SHA384, "EC PRIVATE KEY");
    check(&PKCS_RSA_SHA256, "RSA PRIVATE KEY");
}

#[test]
fn takes_chain_and_key_from_one_file() {
    let issued = Authority::new("authority").issue(&wish(&["a.test"]));
    let both = format!("{}{}", issued.key, issued.chain);
    load_texts(&both, &both).unwrap();
}

/// An error's message with all its causes, and its remedy.
fn told(error: &Error) -> String {
    let mut told = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        write!(told, ": {error}").unwrap();
        cause = error.source();
    }
    format!("{told} / {}", error.remedy())
}

#[test]
fn says_what_is_wrong_and_what_to_do() {
    let authority = Authority::new("authority");
    let issued = authority.issue(&wish(&["a.test"]));
    let other = authority.issue(&wish(&["b.test"]));
    let (chain, key) = (&issued.chain[..], &issued.key[..]);
    let check = |chain: &str, key: &str, expected: &[&str]| {
        let told = told(&load_texts(chain, key).unwrap_err());
        for part in expected {
            assert!(told.contains(part), "`{part}` is not in: {told}");
        }
    };
    check("", key, &["chain.pem holds no certificate, it is empty"]);
    check("\n \n", key, &["it is empty"]);
    check("hello", key, &["it is not PEM", "Name a PEM file"]);
    check(key, key, &["only a private key", "may have been exchanged"]);
    check(
        chain,
        chain,
        &["key.pem holds no private key, only a certificate"],
    );
    check(chain, "", &["key.pem holds no private key, it is empty"]);
    let request = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
    check(
        request,
        key,
        &["only a certificate request", "Send the request"],
    );
    let strange = "-----BEGIN PARAMETERS-----\nAAAA\n-----END PARAMETERS-----\n";
    check(chain, strange, &["only other PEM sections"]);
    let cut = chain.split_at(chain.len() / 2).0;
    check(
        cut,
        key,
        &["chain.pem is not valid PEM", "missing section end"],
    );
    let garbled = chain.replace("MII", "M!I");
    check(&garbled, key, &["chain.pem is not valid PEM"]);
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    check(junk, key, &["certificate 1 of", "cannot be parsed"]);
    check(&format!("{chain}{junk}"), key, &["certificate 2 of"]);
    check(
        chain,
        &other.key,
        &["does not belong to the certificate in", "requested with"],
    );
    let reversed = format!("{}{chain}", authority.certificate.pem());
    check(
        &reversed,
        key,
        &["It belongs to certificate 2", "put that one first"],
    );
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    check(chain, encrypted, &["is encrypted", "openssl pkey -in"]);
    let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
                  DEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    check(chain, legacy, &["is encrypted"]);
    let unusable = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    check(chain, unusable, &["cannot be used", "RSA of 2048 to 8192"]);
}

#[test]
fn recognises_binary_files() {
    let issued = Authority::new("authority").issue(&wish(&["a.test"]));
    let (_directory, path) = directory();
    let der = crate::testing::first(&issued.chain);
    std::fs::write(path.join("chain.der"), &der).unwrap();
    write(&path.join("key.pem"), &issued.key);
    let error = load(&path.join("chain.der"), &path.join("key.pem")).unwrap_err();
    let told = told(&error);
    assert!(told.contains("it is binary, not PEM"), "{told}");
    assert!(told.contains("openssl x509 -inform der"), "{told}");
}

#[test]
fn warns_about_what_clients_may_refuse() {
    let authority = Authority::new("authority");
    let other = Authority::new("other");
    let check = |chain: &str, issued_key: &str, expected: &[Warning]| {
        let certificate = load_texts(chain, issued_key).unwrap();
        assert_eq!(&*certificate.warnings, expected);
    };
    let plain = authority.issue(&wish(&["a.test"]));
    check(&plain.chain, &plain.key, &[]);
    let full = format!("{}{}", plain.chain, authority.certificate.pem());
    check(&full, &plain.key, &[]);
    let disordered = format!("{}{}", plain.chain, other.certificate.pem());
    check(
        &disordered,
        &plain.key,
        &[Warning::ChainOrder { position: 1 }],
    );
    let nameless = authority.issue(&wish(&[]));
    check(&nameless.chain, &nameless.key, &[Warning::NoNames]);
    let odd = authority.issue(&wish(&["a.test", "www*.a.test"]));
    let name = "www*.a.test".to_owned();
    check(&odd.chain, &odd.key, &[Warning::UnusableName { name }]);
    let client = authority.issue(&Wish {
        for_clients: true,
        ..wish(&["a.test"])
    });
    check(&client.chain, &client.key, &[Warning::NotForServers]);
    let public = authority.issue(&Wish {
        tells_issuer: true,
        ..wish(&["a.test"])
    });
    let issuer = "CN=authority".to_owned();
    check(
        &public.chain,
        &public.key,
        &[Warning::IssuerMissing { issuer }],
    );
    let whole = format!("{}{}", public.chain, authority.certificate.pem());
    check(&whole, &public.key, &[]);
}

#[test]
fn every_warning_says_something_and_has_a_remedy() {
    let moment = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_767_323_045));
    let path = || "/etc/cardea/site.key".into();
    let check = |warning: Warning, expected: &str| {
        assert_eq!(warning.to_string(), expected);
        assert!(warning.remedy().ends_with('.'));
    };
    let not_after = moment;
    check(
        Warning::Expired { not_after },
        "it expired on 2026-01-02 03:04 UTC",
    );
    check(
        Warning::ExpiresSoon { not_after },
        "it expires on 2026-01-02 03:04 UTC",
    );
    let not_before = moment;
    check(
        Warning::NotYetValid { not_before },
        "it is valid only from 2026-01-02 03:04 UTC",
    );
    check(
        Warning::KeyReadableByAll {
            path: path(),
            mode: 0o644,
        },
        "everyone can read /etc/cardea/site.key (mode 0644)",
    );
    check(
        Warning::KeyWritableByOthers {
            path: path(),
            mode: 0o660,
        },
        "others than its owner can write /etc/cardea/site.key (mode 0660)",
    );
    check(
        Warning::CannotBeStapled,
        "clients want the word of its authority with it, and it names no responder",
    );
    check(Warning::NoNames, "it names no host and no address");
}

#[test]
fn keys_are_for_their_owner_and_perhaps_a_group_to_read() {
    let check = |mode: u32, expected: &str| {
        let warning = key_warning("site.key".as_ref(), mode);
        let told = warning
            .map(|warning| warning.to_string())
            .unwrap_or_default();
        assert!(told.starts_with(expected), "{mode:o}: {told}");
        assert_eq!(told.is_empty(), expected.is_empty(), "{mode:o}: {told}");
    };
    for mode in [0o400, 0o600, 0o640, 0o440] {
        check(mode, "");
    }
    for mode in [0o644, 0o604, 0o444] {
        check(mode, "everyone can read");
    }
    for mode in [0o602, 0o666, 0o660, 0o620] {
        check(mode, "others than its owner can write");
    }
}

#[test]
fn who_demands_a_staple_has_to_say_where_it_is() {
    let authority = Authority::new("authority");
    for (must_staple, tells_responder, is_told) in [
        (true, false, true),
        (true, true, false),
        (false, false, false),
    ] {
        let issued = authority.issue(&Wish {
            must_staple,
            tells_responder,
            ..wish(&["a.test"])
        });
        let certificate = load_texts(&issued.chain, &issued.key).unwrap();
        assert_eq!(certificate.details.must_staple, must_staple);
        let told = certificate.warnings.contains(&Warning::CannotBeStapled);
        assert_eq!(told, is_told, "{must_staple} {tells_responder}");
    }
}

#[test]
fn covers_names_as_clients_do() {
    let authority = Authority::new("authority");
    let issued = authority.issue(&Wish {
        not_after: UnixTime::now().as_secs() + DAY,
        ..wish(&["a.test", "*.b.test", "192.0.2.1"])
    });
    let details = load_texts(&issued.chain, &issued.key).unwrap().details;
    let check = |host: &str, expected: bool| assert_eq!(details.covers(host), expected, "{host}");
    check("a.test", true);
    check("x.a.test", false);
    check("b.test", false);
    check("x.b.test", true);
    check("y.x.b.test", false);
    check("192.0.2.1", true);
    check("192.0.2.2", false);
}
