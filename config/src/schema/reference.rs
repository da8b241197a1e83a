//! The reference page of the configuration, made from the schema and the example that has every
//! field. A test keeps the page current; with `CARDEA_BLESS=1` it writes it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

use serde_json::{Map, Value};

const INTRODUCTION: &str = "\
<!-- Made from the types in config/src/model and config/src/policy and from
     config/examples/full.yaml by `CARDEA_BLESS=1 cargo test -p cardea-config schema`. -->

# Configuration

One YAML document, `cardea.yaml`, with as many included files as you like. The guides say how to use
it; this page says what can be written. Everything has a default unless it says *required*, and a
field that is not here is refused. Paths of files are relative to the file that names them.
`cardea check` tells what is wrong with a document, and `cardea schema` prints the
[JSON schema](configuration.schema.json) that editors complete from.

";

/// What the simple values are called.
const VALUES: [(&str, &str); 10] = [
    ("Bind", "address to listen on"),
    ("ByteSize", "number of bytes"),
    ("FilePath", "file"),
    ("HostPattern", "host"),
    ("LogDirectives", "log level"),
    ("Method", "method"),
    ("Name", "name"),
    ("Network", "network"),
    ("Period", "time"),
    ("SecretText", "text with references"),
];

/// The page for a schema, with chapters and examples from a document that has every field.
pub(super) fn page(schema: &Value, example: &str) -> String {
    let mut page = Page {
        definitions: object(&schema["$defs"]),
        sections: BTreeMap::new(),
        waiting: VecDeque::new(),
        text: INTRODUCTION.to_owned(),
    };
    let fields = object(&schema["properties"]);
    page.text.push_str("| | |\n|---|---|\n");
    let chapters = chapters(example);
    for (name, _) in &chapters {
        let about = sentence(&fields[*name]["description"]);
        page.line(&format!("| [`{name}`](#{name}) | {about} |"));
    }
    for (name, example) in chapters {
        page.chapter(name, &fields[name], &example);
    }
    page.values();
    page.text
}

struct Page<'s> {
    definitions: &'s Map<String, Value>,
    /// Where each definition has its section.
    sections: BTreeMap<&'s str, String>,
    /// Definitions that were mentioned and have no section yet.
    waiting: VecDeque<&'s str>,
    text: String,
}

impl<'s> Page<'s> {
    fn line(&mut self, text: &str) {
        writeln!(self.text, "{text}").expect("a string takes everything");
    }

    fn chapter(&mut self, name: &str, field: &'s Value, example: &str) {
        self.line(&format!("\n## `{name}`\n"));
        self.line(&sentence(&field["description"]));
        self.line(&format!("\n```yaml\n{example}\n```\n"));
        let kind = self.kind(field, name);
        let is_itself = self.waiting.front().map(|it| self.sections[*it].as_str()) == Some(name);
        if !is_itself {
            self.line(&format!("Type: {kind}."));
        }
        while let Some(definition) = self.waiting.pop_front() {
            self.section(definition);
        }
    }

    fn section(&mut self, definition: &'s str) {
        let Some(path) = self.sections.get(definition).cloned() else {
            return;
        };
        let schema = &self.definitions[definition];
        // The chapter itself may be all there is to say.
        if path.contains(['.', '[']) {
            self.line(&format!("\n### `{path}`\n"));
        }
        self.line(&sentence(&schema["description"]));
        match &schema["oneOf"] {
            Value::Array(choices) => self.choices(choices, &path),
            _ => self.fields(schema, &path),
        }
    }

    fn fields(&mut self, schema: &'s Value, path: &str) {
        self.line("\n| field | what | default | |\n|---|---|---|---|");
        let required: Vec<_> = (schema["required"].as_array().into_iter().flatten())
            .filter_map(Value::as_str)
            .collect();
        let all = object(&schema["properties"]);
        let (first, rest): (Vec<_>, Vec<_>) = all
            .iter()
            .partition(|(name, _)| required.contains(&name.as_str()));
        for (name, field) in first.into_iter().chain(rest) {
            let kind = self.kind(field, &format!("{path}.{name}"));
            let default = match &field["default"] {
                _ if required.contains(&name.as_str()) => "*required*".to_owned(),
                Value::Null | Value::Object(_) => String::new(),
                default => literal(default),
            };
            let about = sentence(&field["description"]).replace('|', "\\|");
            self.line(&format!("| `{name}` | {kind} | {default} | {about} |"));
        }
    }

    fn choices(&mut self, choices: &'s [Value], path: &str) {
        self.line("\n| one of | with | |\n|---|---|---|");
        for choice in choices {
            let about = sentence(&choice["description"]).replace('|', "\\|");
            let (name, kind) = match object(&choice["properties"]).iter().next() {
                Some((name, inner)) => (
                    format!("`{name}`"),
                    self.kind(inner, &format!("{path}.{name}")),
                ),
                None => (literal(&choice["const"]), String::new()),
            };
            self.line(&format!("| {name} | {kind} | {about} |"));
        }
    }

    /// What stands at a place, in words, with links to where it is described.
    fn kind(&mut self, schema: &'s Value, path: &str) -> String {
        if let Some(name) = schema["$ref"].as_str() {
            return self.definition(name.trim_start_matches("#/$defs/"), path);
        }
        if let Some(choices) = schema["anyOf"].as_array() {
            let real = choices.iter().filter(|it| it["type"] != "null");
            let kinds: Vec<_> = real.map(|it| self.kind(it, path)).collect();
            return kinds.join(", or ");
        }
        if !schema["const"].is_null() {
            return literal(&schema["const"]);
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds.first().unwrap_or(&Value::Null),
            kind => kind,
        };
        match kind.as_str().unwrap_or_default() {
            "array" => format!(
                "list: {}",
                self.kind(&schema["items"], &format!("{path}[]"))
            ),
            "object" => {
                let values = match schema["patternProperties"].as_object() {
                    Some(patterns) => patterns.values().next().expect("a pattern has a schema"),
                    None => &schema["additionalProperties"],
                };
                let path = format!("{path}.NAME");
                format!("map by name: {}", self.kind(values, &path))
            }
            "integer" => "number".to_owned(),
            "boolean" => "`true` or `false`".to_owned(),
            _ => "text".to_owned(),
        }
    }

    fn definition(&mut self, name: &str, path: &str) -> String {
        let (name, schema) = (self.definitions.get_key_value(name))
            .map(|(name, schema)| (name.as_str(), schema))
            .expect("what is referred to is defined");
        if let Some((_, label)) = VALUES.iter().find(|(value, _)| *value == name) {
            return format!("[{label}](#values)");
        }
        // Short forms beside long ones, and what can be switched off.
        if schema["anyOf"].is_array() {
            return self.kind(schema, path);
        }
        if !self.sections.contains_key(name) {
            self.sections.insert(name, path.to_owned());
            self.waiting.push_back(name);
        }
        let anchor = anchor(&self.sections[name]);
        if let Some(choices) = schema["oneOf"].as_array() {
            let names = choices.iter().map(|choice| {
                let field = object(&choice["properties"]).keys().next();
                field.map_or_else(|| literal(&choice["const"]), |name| format!("`{name}: …`"))
            });
            let names: Vec<_> = names.collect();
            return format!("[one of](#{anchor}) {}", names.join(", "));
        }
        format!("[`{}`](#{anchor})", self.sections[name])
    }

    fn values(&mut self) {
        self.line("\n## Values\n");
        for (name, label) in VALUES {
            let about = sentence(&self.definitions[name]["description"]);
            let about = about.strip_suffix('.').unwrap_or(&about).to_owned();
            self.line(&format!("- **{label}**. {about}."));
        }
    }
}

/// The top-level fields of a document with the lines they are written in, in their order.
fn chapters(example: &str) -> Vec<(&str, String)> {
    let mut chapters: Vec<(&str, String)> = Vec::new();
    for line in example.lines() {
        let begins = line.starts_with(|letter: char| letter.is_ascii_lowercase());
        match (line.split_once(':'), chapters.last_mut()) {
            (Some((name, _)), _) if begins => chapters.push((name, line.to_owned())),
            (_, Some((_, lines))) => {
                lines.push('\n');
                lines.push_str(line);
            }
            _ => {}
        }
    }
    for (_, lines) in &mut chapters {
        lines.truncate(lines.trim_end().len());
    }
    chapters
}

fn object(value: &Value) -> &Map<String, Value> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    value.as_object().unwrap_or(&NONE)
}

fn sentence(description: &Value) -> String {
    description.as_str().unwrap_or_default().replace('\n', " ")
}

/// A value as YAML, as code.
fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        Value::Array(items) => {
            let items: Vec<_> = items
                .iter()
                .map(|item| literal(item).trim_matches('`').to_owned())
                .collect();
            format!("`[{}]`", items.join(", "))
        }
        other => format!("`{other}`"),
    }
}

/// What a heading is linked by on the sites that show Markdown.
fn anchor(heading: &str) -> String {
    let kept = |letter: &char| letter.is_ascii_alphanumeric() || "-_".contains(*letter);
    heading.to_ascii_lowercase().chars().filter(kept).collect()
}
