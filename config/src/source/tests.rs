//! Documents in real directories: what they include, refer to and depend on.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;
use crate::diagnostic::brief;

const LISTENERS: &str = "listeners: [{ name: web, bind: [':8080'] }]\n";

struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            directory.write(name, text);
        }
        directory
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn load(&self) -> Result<Loaded, Refused> {
        load(&self.path("c.yaml"))
    }

    #[track_caller]
    fn loaded(&self) -> Loaded {
        self.load()
            .unwrap_or_else(|it| panic!("{}", it.render(false)))
    }

    /// What is wrong, without where the directory is.
    #[track_caller]
    fn refused(&self) -> Vec<String> {
        let refused = self.load().expect_err("it is refused");
        let text = brief(&refused.diagnostics, &refused.sources);
        let here = format!("{}/", self.0.path().display());
        text.replace(&here, "").lines().map(str::to_owned).collect()
    }

    /// What is watched, by name.
    fn watched(&self, sources: &Sources) -> BTreeSet<String> {
        let name = |path: &Path| {
            let inside = path.strip_prefix(self.0.path()).unwrap_or(path);
            inside.display().to_string()
        };
        sources.watched().map(name).collect()
    }
}

fn domain(host: &str) -> String {
    format!("domains: [{{ hosts: [{host}], routes: [{{ policies: {{ respond: {{}} }} }}] }}]\n")
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn fragments_are_added_in_order() {
    let main = format!(
        "{LISTENERS}include: ['parts/*.yaml', more/last.yaml]\n{}",
        domain("m")
    );
    let files = Files::new(&[
        ("c.yaml", &main),
        ("parts/b.yaml", &domain("b")),
        ("parts/a.yaml", &domain("a")),
        ("parts/.hidden.yaml", "nonsense"),
        ("parts/readme.txt", "nonsense"),
        (
            "more/last.yaml",
            "upstreams: { u: { endpoints: ['127.0.0.1:1'] } }\n",
        ),
    ]);
    let loaded = files.loaded();
    let hosts: Vec<_> = loaded
        .document
        .domains
        .iter()
        .map(|it| it.label())
        .collect();
    assert_eq!(hosts, ["m", "a", "b"]);
    assert_eq!(loaded.document.upstreams.len(), 1);
    let place = loaded.sources.describe(loaded.document.domains[2].origin);
    assert!(place.ends_with("parts/b.yaml:1:11"), "{place}");
    assert_eq!(
        files.watched(&loaded.sources),
        names(&[
            "c.yaml",
            "parts",
            "parts/a.yaml",
            "parts/b.yaml",
            "more/last.yaml"
        ])
    );
}

#[test]
fn mistakes_of_all_files_are_told_together() {
    let files = Files::new(&[
        (
            "c.yaml",
            "listeners: []\ninclude: [a.yaml, b.yaml, gone.yaml]\nworkers: x\n",
        ),
        ("a.yaml", "workers: 2\n"),
        ("b.yaml", "domains: [{ hosts: ['a b'] }]\nupstream: {}\n"),
    ]);
    let refused = files.refused();
    let starts = [
        "c.yaml:2:27: error[E-file]: gone.yaml cannot be read",
        "c.yaml:3:10: error[E-value]",
        "a.yaml:1:1: error[E-unknown-field]: an included file cannot hold `workers`",
        "b.yaml:1:21: error[E-value]: `a b` is no host",
        "b.yaml:2:1: error[E-unknown-field]",
    ];
    for start in starts {
        assert!(
            refused.iter().any(|it| it.starts_with(start)),
            "{start}: {refused:#?}"
        );
    }
    assert_eq!(refused.len(), starts.len(), "{refused:#?}");
}

#[test]
fn a_file_counts_once() {
    let files = Files::new(&[
        (
            "c.yaml",
            &format!("{LISTENERS}include: ['*.yaml', ./a.yaml]\n"),
        ),
        ("a.yaml", &domain("a")),
    ]);
    // The document itself fits the pattern, and is no fragment of itself.
    let refused = files.refused();
    assert_eq!(
        refused,
        ["c.yaml:2:21: error[E-include]: a.yaml is included twice; keep one of the includes"]
    );
    files.write("c.yaml", &format!("{LISTENERS}include: [c.yaml]\n"));
    assert!(files.refused()[0].contains("c.yaml is included twice"));
    // Nor is a link to it.
    symlink(files.path("c.yaml"), files.path("link.yaml")).unwrap();
    files.write("c.yaml", &format!("{LISTENERS}include: ['l*.yaml']\n"));
    assert!(files.refused()[0].contains("link.yaml is included twice"));
}

#[test]
fn nothing_outside_the_directory_is_read() {
    let outside = Files::new(&[("secret.yaml", "root:x:0:0\n")]);
    let files = Files::new(&[(
        "c.yaml",
        &format!("{LISTENERS}include: [link.yaml, ../x.yaml, /etc/passwd]\n"),
    )]);
    symlink(outside.path("secret.yaml"), files.path("link.yaml")).unwrap();
    let refused = files.refused();
    assert_eq!(refused.len(), 3, "{refused:#?}");
    assert!(refused[0].contains("link.yaml is a link that leads out of this directory"));
    assert!(!refused.concat().contains("root:x"), "{refused:#?}");
}

#[test]
fn a_config_map_is_read_through_its_links() {
    let files = Files::new(&[
        ("..1/c.yaml", &format!("{LISTENERS}include: [d.yaml]\n")),
        ("..1/d.yaml", &domain("d")),
    ]);
    symlink("..1", files.path("..data")).unwrap();
    for name in ["c.yaml", "d.yaml"] {
        symlink(format!("..data/{name}"), files.path(name)).unwrap();
    }
    assert_eq!(files.loaded().document.domains.len(), 1);
}

#[test]
fn files_that_are_no_text() {
    let files = Files::new(&[]);
    assert!(files.refused()[0].contains("create it"));
    fs::write(files.path("c.yaml"), b"a: 1\nb: \xff\n").unwrap();
    assert!(files.refused()[0].contains("line 2 is not UTF-8"));
    fs::remove_file(files.path("c.yaml")).unwrap();
    fs::create_dir(files.path("c.yaml")).unwrap();
    assert!(files.refused()[0].contains("it is a directory"));
}

#[test]
fn paths_are_relative_to_the_file_that_has_them() {
    let certificate = "certificates: [{ name: n, chain: c/n.pem, key: /k/n.key }]\n";
    let files = Files::new(&[
        (
            "c.yaml",
            &format!(
                "{LISTENERS}include: [parts/p.yaml]\naccess_log: {{ to: {{ file: log/a.log }} }}\nupstreams: {{ u: {{ endpoints: ['127.0.0.1:1'], tls: {{ ca: ca.pem }} }} }}\n"
            ),
        ),
        ("parts/p.yaml", certificate),
        ("ca.pem", ""),
    ]);
    let loaded = files.loaded();
    let certificate = &loaded.document.certificates[0];
    assert_eq!(
        certificate.chain.as_ref().unwrap().as_path(),
        files.path("parts/c/n.pem")
    );
    assert_eq!(
        certificate.key.as_ref().unwrap().as_path(),
        Path::new("/k/n.key")
    );
    let upstream = loaded.document.upstreams.values().next().unwrap();
    let ca = upstream.tls.as_ref().and_then(|tls| tls.ca.as_deref());
    assert_eq!(ca, Some(&*files.path("ca.pem")));
    let shown = serde_json::to_value(&loaded.document).unwrap();
    assert_eq!(shown["access_log"]["to"]["file"], "log/a.log");
    assert!(files.watched(&loaded.sources).contains("ca.pem"));
    // Wherever the process runs.
    let relative = parse(
        &format!("{LISTENERS}certificates: [{{ name: n, chain: n.pem, key: n.key }}]\n"),
        "x",
    );
    assert!(
        relative.unwrap().document.certificates[0]
            .chain
            .as_ref()
            .is_some_and(|chain| chain.is_absolute())
    );
}

#[test]
fn secrets_come_from_files_beside_the_document() {
    let edits = "policies: { header_edits: { request: { set: { authorization: 'Bearer ${file:token}' } } } }\n";
    let files = Files::new(&[("c.yaml", &format!("{LISTENERS}{edits}{}", domain("a")))]);
    let refused = files.load().unwrap_err();
    assert!(refused.render(false).contains("token cannot be read"));
    // It may appear: then the document is fine.
    assert!(files.watched(&refused.sources).contains("token"));
    files.write("token", "one\n");
    let first = files.loaded();
    let edits = first.document.policies.header_edits.as_ref().unwrap();
    assert_eq!(edits.request.set["authorization"].value(), "Bearer one");
    let shown = format!(
        "{:?}{}",
        first.document,
        serde_json::to_string(&first.document).unwrap()
    );
    assert!(!shown.contains("Bearer one"), "{shown}");
    // Another secret is another document.
    files.write("token", "two\n");
    let second = files.loaded();
    assert_ne!(first.document.policies, second.document.policies);
    assert_ne!(first.fingerprint, second.fingerprint);
}

#[test]
fn the_fingerprint_is_that_of_the_contents() {
    let files = Files::new(&[
        (
            "c.yaml",
            &format!(
                "{LISTENERS}include: ['p*.yaml']\nupstreams: {{ u: {{ endpoints: ['127.0.0.1:1'], tls: {{ ca: ca.pem }} }} }}\n"
            ),
        ),
        ("p.yaml", &domain("a")),
        ("ca.pem", "1"),
    ]);
    let mut seen = vec![files.loaded().fingerprint];
    let mut changed = |why: &str| {
        let fingerprint = files.loaded().fingerprint;
        assert!(!seen.contains(&fingerprint), "{why}");
        seen.push(fingerprint);
    };
    files.write("p.yaml", &domain("b"));
    changed("a fragment");
    files.write("ca.pem", "2");
    changed("a file of TLS");
    files.write("p2.yaml", &domain("c"));
    changed("a new fragment");
    files.write("p2.yaml", &domain("c"));
    assert_eq!(seen.last(), Some(&files.loaded().fingerprint));
}

#[test]
fn text_that_is_no_file_includes_nothing() {
    let refused = parse(&format!("{LISTENERS}include: [a.yaml]\n"), "(stdin)").unwrap_err();
    assert!(refused.render(false).contains("save it as a file"));
}

#[test]
fn a_document_reads_as_it_is_shown() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/full.yaml");
    let loaded = load(&path).unwrap();
    let shown = serde_json::to_string(&Document {
        include: Vec::new(),
        ..loaded.document.clone()
    });
    let text = shown.unwrap();
    let reading = Reading::start();
    reading.enter(path.parent().unwrap());
    let mut problems = Problems::default();
    let again: Option<Document> = decoded(&text, SourceId::default(), &mut problems);
    assert_eq!(problems.into_found(), []);
    assert_eq!(again.unwrap(), loaded.document);
}
