//! What makes two settings the same. What can be wrong with files, `cardea-certs` tests.

use std::sync::Arc;

use cardea_config::model::FilePath;

use super::*;

/// A directory with a certificate, its key, and another pair.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().expect("a directory"));
        files.issue("a");
        files.issue("b");
        files
    }

    fn issue(&self, name: &str) {
        let names = ["origin.test".to_owned()];
        let certified = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let write = |kind: &str, text: &str| {
            std::fs::write(self.0.path().join(format!("{name}.{kind}")), text).expect("a file");
        };
        write("pem", &certified.cert.pem());
        write("key", &certified.signing_key.serialize_pem());
    }

    fn path(&self, name: &str) -> Option<FilePath> {
        Some(self.0.path().join(name).as_path().into())
    }

    fn trusting(&self, ca: &str) -> UpstreamTls {
        UpstreamTls {
            ca: self.path(ca),
            ..UpstreamTls::default()
        }
    }
}

#[test]
fn what_is_asked_for_twice_is_made_once() {
    let (files, configs) = (Files::new(), ClientConfigs::default());
    let plain = files.trusting("a.pem");
    let named = UpstreamTls {
        server_name: Some("origin.test".into()),
        ..plain.clone()
    };
    let compiled = |settings| compile(settings, Protocol::Agreed, &configs).expect("it is good");
    let (first, second) = (compiled(&plain), compiled(&named));
    assert!(Arc::ptr_eq(&first.config, &second.config));
    assert_ne!(first, second, "the names differ");
    assert_eq!(first, compiled(&plain));
}

#[test]
fn everything_that_matters_makes_a_difference() {
    let (files, configs) = (Files::new(), ClientConfigs::default());
    let base = files.trusting("a.pem");
    let before = compile(&base, Protocol::Agreed, &configs).expect("it is good");
    let check = |settings: UpstreamTls| {
        let after = compile(&settings, Protocol::Agreed, &configs).expect("it is good");
        assert_ne!(before, after, "{settings:?}");
    };
    check(files.trusting("b.pem"));
    check(UpstreamTls {
        verify: Verify::Off,
        ..base.clone()
    });
    check(UpstreamTls {
        certificate: files.path("b.pem"),
        key: files.path("b.key"),
        ..base.clone()
    });
    files.issue("a");
    check(base);
}

#[test]
fn what_is_no_name_is_refused() {
    let files = Files::new();
    let settings = UpstreamTls {
        server_name: Some("not a name".into()),
        ..files.trusting("a.pem")
    };
    let error =
        compile(&settings, Protocol::Agreed, &ClientConfigs::default()).expect_err("no name");
    assert!(matches!(error, Error::InvalidName { .. }), "{error}");
}
