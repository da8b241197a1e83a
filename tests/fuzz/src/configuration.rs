//! A configuration: it is accepted, and then stays the same when it is written and read again, or
//! it is refused with a reason that people can read.

/// Any bytes as a configuration document.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    cardea_config::compare_readers(text);
    match cardea_config::parse(text, "fuzz.yaml") {
        Ok(loaded) => written_and_read(&loaded.document),
        Err(refused) => {
            assert!(refused.diagnostics.iter().any(|it| it.is_error()));
            assert!(refused.render(false).contains("error["));
        }
    }
}

/// JSON is YAML, and what `/config` shows could be saved as a configuration, but for its secrets.
fn written_and_read(document: &cardea_config::model::Document) {
    let written = serde_json::to_string(document).expect("a document can be written");
    if written.contains("(redacted)") || written.contains("${") {
        return;
    }
    match cardea_config::parse(&written, "again.yaml") {
        Ok(again) => assert_eq!(*document, again.document, "{written}"),
        Err(refused) => panic!("{}\n{written}", refused.render(false)),
    }
}
