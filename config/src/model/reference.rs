//! Values that refer to something outside the document: files by their path, and secrets kept in
//! files or environment variables.
//!
//! Must not: show what a secret is, wherever the value is printed.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::ops::Deref;
use std::path::Path;
use std::str::FromStr;

use super::text::{FieldValue, Rule};
use super::value::text_value;
use crate::decode::{note_file, relative};

/// The largest file a secret is read from, bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// The path of a file, relative to the directory of the file that names it. `${env:NAME}` stands
/// for what is in an environment variable, such as `${env:CREDENTIALS_DIRECTORY}/site.key`.
#[derive(Clone)]
pub struct FilePath {
    written: Box<str>,
    path: Box<Path>,
}

impl FilePath {
    /// The path, with what it is relative to.
    pub fn as_path(&self) -> &Path {
        &self.path
    }
}

impl FromStr for FilePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains('\0') {
            return Err("the path of a file is empty\nwrite it, or take the field out".to_owned());
        }
        let path = expand(text, |kind, name| match kind {
            Kind::Env => variable(name),
            Kind::File => Err("a path cannot come from a file".to_owned()),
        })?;
        Ok(Self {
            written: text.into(),
            path: relative(&path).into(),
        })
    }
}

impl From<&Path> for FilePath {
    fn from(path: &Path) -> Self {
        Self {
            written: path.display().to_string().into(),
            path: path.into(),
        }
    }
}

impl PartialEq for FilePath {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for FilePath {}

impl Hash for FilePath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.path.hash(state);
    }
}

impl Deref for FilePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for FilePath {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<OsStr> for FilePath {
    fn as_ref(&self) -> &OsStr {
        self.path.as_os_str()
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.written)
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.path, formatter)
    }
}

text_value!(
    FilePath,
    { "type": "string", "minLength": 1 },
    "The path of a file, relative to the directory of the file that names it; `${env:NAME}` stands for an environment variable"
);

/// Text that may refer to secrets kept elsewhere: `${env:NAME}` and `${file:path}` stand for what
/// is there when the configuration is read. What they stand for is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText {
    written: Box<str>,
    /// What is written, with its references resolved; not there if there are none.
    resolved: Option<Box<str>>,
}

impl SecretText {
    /// The text with its references resolved.
    pub fn value(&self) -> &str {
        self.resolved.as_deref().unwrap_or(&self.written)
    }

    /// Whether the whole value stands in the document itself.
    pub fn is_literal(&self) -> bool {
        self.resolved.is_none()
    }
}

impl FromStr for SecretText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value = expand(text, |kind, name| match kind {
            Kind::Env => variable(name),
            Kind::File => secret(&relative(name)),
        })?;
        FieldValue::check(&value).map_err(|wrong| match value == text {
            true => wrong,
            // Not even one character of a secret is shown.
            false => "the secret has a character that no header field can have\nkeep it to one line of text".to_owned(),
        })?;
        Ok(Self {
            resolved: (value != text).then(|| value.into()),
            written: text.into(),
        })
    }
}

impl fmt::Display for SecretText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.written)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.written, formatter)
    }
}

text_value!(
    SecretText,
    { "type": ["string", "number", "boolean"] },
    "Text; `${env:NAME}` and `${file:path}` stand for secrets kept elsewhere"
);

/// What a reference refers to.
#[derive(Clone, Copy)]
enum Kind {
    Env,
    File,
}

/// Replaces the references in a text by what they stand for.
fn expand<'t>(
    text: &'t str,
    resolve: impl Fn(Kind, &str) -> Result<String, String>,
) -> Result<Cow<'t, str>, String> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let mut value = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, reference)) = rest.split_once("${") {
        value.push_str(before);
        let Some((reference, after)) = reference.split_once('}') else {
            return Err("a reference `${…` without its `}`\nclose it".to_owned());
        };
        let (kind, name) = match reference.split_once(':') {
            Some(("env", name)) => (Kind::Env, name),
            Some(("file", name)) => (Kind::File, name),
            _ => {
                return Err(format!(
                    "`${{{reference}}}` is no reference\nwrite `${{env:NAME}}` or `${{file:path}}`"
                ));
            }
        };
        value.push_str(&resolve(kind, name)?);
        rest = after;
    }
    value.push_str(rest);
    Ok(Cow::Owned(value))
}

fn variable(name: &str) -> Result<String, String> {
    // A name with `=` or NUL cannot be asked for.
    let value = if name.is_empty() || name.contains(['=', '\0']) {
        None
    } else {
        std::env::var(name).ok()
    };
    value.ok_or_else(|| {
        format!("the environment variable `{name}` is not set\nset it where the gateway is started")
    })
}

fn secret(path: &Path) -> Result<String, String> {
    let fail = |why: &dyn fmt::Display| {
        let path = path.display();
        format!("the secret file {path} cannot be read: {why}\nlook at its path and permissions")
    };
    // It may appear, or become readable, later.
    note_file(path, &[]);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| fail(&error))?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(fail(&format_args!(
            "it has more than {SECRET_BYTES_MAX} bytes"
        )));
    }
    note_file(path, &bytes);
    let text = String::from_utf8(bytes).map_err(|_| fail(&"it is not UTF-8 text"))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_resolved_and_never_shown() {
        let home: SecretText = "Bearer ${env:PATH}".parse().unwrap();
        assert!(home.value().starts_with("Bearer /"));
        assert_eq!(
            format!("{home:?} {home}"),
            "\"Bearer ${env:PATH}\" Bearer ${env:PATH}"
        );
        assert_eq!(
            serde_json::to_string(&home).unwrap(),
            "\"Bearer ${env:PATH}\""
        );
        assert!(!home.is_literal());
    }

    #[test]
    fn secret_files_are_read_without_their_last_line_break() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, "s3cret\r\n").unwrap();
        let text = format!("${{file:{}}}!", file.display());
        let secret: SecretText = text.parse().unwrap();
        assert_eq!(secret.value(), "s3cret!");
        assert_eq!(secret.to_string(), text);
    }

    #[test]
    fn broken_references_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let many = directory.path().join("many");
        std::fs::write(&many, vec![b'x'; SECRET_BYTES_MAX as usize + 1]).unwrap();
        let lines = directory.path().join("lines");
        std::fs::write(&lines, "a\nb\n").unwrap();
        let file = |path: &Path| format!("${{file:{}}}", path.display());
        for bad in [
            "${env:CARDEA_NO_SUCH_VARIABLE}",
            "${env:}",
            "${env:A=B}",
            "${file:/no/such}",
            "${x}",
            "${env:PATH",
            &file(&many),
            &file(&lines),
            &file(directory.path()),
        ] {
            assert!(bad.parse::<SecretText>().is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_take_variables() {
        let path: FilePath = "${env:CARGO_MANIFEST_DIR}/Cargo.toml".parse().unwrap();
        assert!(path.is_file());
        assert_eq!(path.to_string(), "${env:CARGO_MANIFEST_DIR}/Cargo.toml");
        for bad in [
            "",
            "${file:/etc/hostname}",
            "${env:CARDEA_NO_SUCH_VARIABLE}",
        ] {
            assert!(bad.parse::<FilePath>().is_err(), "{bad}");
        }
    }
}
