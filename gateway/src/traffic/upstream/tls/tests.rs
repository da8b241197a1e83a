//! Files good and bad, and what makes two settings the same.

use cardea_config::model::FilePath;

use super::*;

/// A directory with a certificate and its key.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let files = Self { directory };
        files.issue("a");
        files.write("empty.pem", "");
        files.write(
            "text.pem",
            "-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n",
        );
        files.write(
            "junk.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        );
        files
    }

    fn issue(&self, name: &str) {
        let names = ["origin.test".to_owned()];
        let certified = rcgen::generate_simple_self_signed(names).expect("a certificate");
        self.write(&format!("{name}.pem"), &certified.cert.pem());
        self.write(
            &format!("{name}.key"),
            &certified.signing_key.serialize_pem(),
        );
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file");
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(Path::new(name))
    }

    fn text(&self, name: &str) -> Option<FilePath> {
        Some(self.path(name).as_path().into())
    }
}

fn compile(settings: &UpstreamTls) -> Result<TlsClient, TlsError> {
    TlsClients::new([].into_iter()).compile(settings)
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let files = Files::new();
    files.issue("b");
    let check = |settings: UpstreamTls, file: &str, expected: &str| {
        let error = compile(&settings).expect_err(expected).to_string();
        let path = files.path(file).display().to_string();
        assert_eq!(error, expected.replace('*', &path));
    };
    let ca = |file: &str| UpstreamTls {
        ca: files.text(file),
        ..UpstreamTls::default()
    };
    let identity = |certificate: &str, key: &str| UpstreamTls {
        certificate: files.text(certificate),
        key: files.text(key),
        ..ca("a.pem")
    };
    check(ca("missing.pem"), "missing.pem", "`*` cannot be read");
    check(ca("empty.pem"), "empty.pem", "`*` holds no certificate");
    check(ca("a.key"), "a.key", "`*` holds no certificate");
    check(
        ca("text.pem"),
        "text.pem",
        "`*` is not the PEM file it should be",
    );
    check(ca("junk.pem"), "junk.pem", "`*` cannot be used");
    check(
        identity("empty.pem", "a.key"),
        "empty.pem",
        "`*` holds no certificate",
    );
    check(
        identity("a.pem", "a.pem"),
        "a.pem",
        "`*` is not the PEM file it should be",
    );
    check(identity("a.pem", "b.key"), "b.key", "`*` cannot be used");
    let named = UpstreamTls {
        server_name: Some("not a name".into()),
        ..ca("a.pem")
    };
    check(
        named,
        "",
        "`not a name` is no name that a certificate could carry",
    );
}

#[test]
fn a_file_without_end_is_not_read_to_its_end() {
    let endless = UpstreamTls {
        ca: Some(Path::new("/dev/zero").into()),
        ..UpstreamTls::default()
    };
    assert!(matches!(compile(&endless), Err(TlsError::TooLarge(_))));
}

#[test]
fn what_is_asked_for_twice_is_made_once() {
    let files = Files::new();
    let plain = UpstreamTls {
        ca: files.text("a.pem"),
        ..UpstreamTls::default()
    };
    let named = UpstreamTls {
        server_name: Some("origin.test".into()),
        ..plain.clone()
    };
    let mut clients = TlsClients::new([].into_iter());
    let first = clients.compile(&plain).expect("it is good");
    let second = clients.compile(&named).expect("it is good");
    assert!(Arc::ptr_eq(&first.config, &second.config));
    assert_ne!(first, second, "the names differ");

    let mut later = TlsClients::new([&first].into_iter());
    let third = later.compile(&plain).expect("it is good");
    assert!(Arc::ptr_eq(&first.config, &third.config));
    assert_eq!(first, third);
}

#[test]
fn everything_that_matters_makes_a_difference() {
    let files = Files::new();
    files.issue("b");
    let base = UpstreamTls {
        ca: files.text("a.pem"),
        ..UpstreamTls::default()
    };
    let before = compile(&base).expect("it is good");
    let check = |settings: UpstreamTls| {
        assert_ne!(
            before,
            compile(&settings).expect("it is good"),
            "{settings:?}"
        );
    };
    check(UpstreamTls {
        ca: files.text("b.pem"),
        ..base.clone()
    });
    check(UpstreamTls {
        verify: Verify::Off,
        ..base.clone()
    });
    check(UpstreamTls {
        certificate: files.text("b.pem"),
        key: files.text("b.key"),
        ..base.clone()
    });
    files.issue("a");
    check(base);
}
