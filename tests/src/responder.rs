//! An authority's OCSP responder: OpenSSL's, behind a socket of ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

use crate::Origin;
use crate::certificate::Authority;
use crate::origin::Connection;

/// A responder under way.
#[derive(Debug)]
pub struct Responder {
    /// What it hears of questions on.
    pub origin: Origin,
    index: Arc<Mutex<String>>,
    signer: Arc<Mutex<PathBuf>>,
    files: TempDir,
}

impl Responder {
    /// Starts one that knows no certificate yet, and answers in an authority's name.
    ///
    /// # Panics
    /// If it cannot have its files.
    #[track_caller]
    pub fn start(authority: &Authority) -> Self {
        let files = tempfile::tempdir().expect("a temporary directory");
        let signer = Arc::new(Mutex::new(save(files.path(), "authority", authority)));
        let index = Arc::new(Mutex::new(String::new()));
        let directory = files.path().to_owned();
        let (its_index, its_signer) = (Arc::clone(&index), Arc::clone(&signer));
        let origin = Origin::serve(move |connection: &mut Connection| {
            while let Some(request) = connection.request() {
                assert_eq!(request.method, "POST");
                assert_eq!(
                    request.field("content-type"),
                    Some("application/ocsp-request")
                );
                let index = its_index
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                let signer = its_signer
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                let response = answer(&directory, &request.body, &index, &signer);
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\n\
                     Content-Length: {}\r\n\r\n",
                    response.len()
                );
                connection.answer([head.as_bytes(), &response].concat());
            }
        });
        Self {
            origin,
            index,
            signer,
            files,
        }
    }

    /// What certificates say about where it is: the content of their authorityInfoAccess.
    pub fn access(&self) -> Vec<u8> {
        let url = format!("http://{}", self.origin.address());
        let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap_or(u8::MAX);
        let oid = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x30\x01";
        let location = [&[0x86, length(url.as_bytes())], url.as_bytes()].concat();
        let entry = [&oid[..], &location].concat();
        let entry = [&[0x30, length(&entry)], &*entry].concat();
        [&[0x30, length(&entry)], &*entry].concat()
    }

    /// Says that a certificate is good, or revoked, from now on.
    pub fn say(&self, serial: u64, is_good: bool) {
        let (status, revoked) = match is_good {
            true => ('V', ""),
            false => ('R', "250101000000Z"),
        };
        let line = format!("{status}\t491231235959Z\t{revoked}\t{serial:08X}\tunknown\t/CN=a\n");
        *self.index.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }

    /// Has answers signed by somebody else from now on.
    #[track_caller]
    pub fn sign_by(&self, other: &Authority) {
        let signer = save(self.files.path(), "other", other);
        *self.signer.lock().unwrap_or_else(PoisonError::into_inner) = signer;
    }
}

fn save(directory: &Path, name: &str, authority: &Authority) -> PathBuf {
    let path = directory.join(format!("{name}.pem"));
    let both = authority.pem() + &authority.key_pem();
    fs::write(&path, both).expect("a file that can be written");
    path
}

/// What OpenSSL makes of a question.
fn answer(directory: &Path, question: &[u8], index: &str, signer: &Path) -> Vec<u8> {
    let scratch = tempfile::tempdir_in(directory).expect("a temporary directory");
    let file = |name: &str| scratch.path().join(name);
    fs::write(file("question"), question).expect("a file that can be written");
    fs::write(file("index"), index).expect("a file that can be written");
    let ended = Command::new("openssl")
        .args(["ocsp", "-ndays", "1", "-CA"])
        .arg(directory.join("authority.pem"))
        .arg("-rsigner")
        .arg(signer)
        .arg("-index")
        .arg(file("index"))
        .arg("-reqin")
        .arg(file("question"))
        .arg("-respout")
        .arg(file("answer"))
        .output()
        .expect("openssl");
    fs::read(file("answer"))
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&ended.stderr)))
}
