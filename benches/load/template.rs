//! The little language of `rivals/*.tmpl`: one template makes all files of one proxy.
//!
//! Read once per proxy and stage, before the proxy starts, and again for each reload.
//!
//! ```text
//! @file NAME        what follows goes to this file
//! @if FLAG … @end   kept when the flag is set
//! @each host … @end once per host: {{host}}, {{upstream}}
//! @each upstream … @end   once per upstream: {{upstream}}
//! {{name}}          a variable
//! ```

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// What a template can refer to.
#[derive(Clone, Default)]
pub(crate) struct Values {
    /// Variables by name.
    pub variables: BTreeMap<&'static str, String>,
    /// Flags that are set.
    pub flags: Vec<&'static str>,
    /// Hosts, each with the name of its upstream.
    pub hosts: Vec<(String, String)>,
    /// The upstreams' names.
    pub upstreams: Vec<String>,
}

/// Expands a template to (file name, content) pairs.
pub(crate) fn expand(template: &str, values: &Values) -> Result<Vec<(String, String)>> {
    let mut files: Vec<(String, String)> = Vec::new();
    let mut lines = template.lines();
    while let Some(line) = lines.next() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("@file"), Some(name)) => files.push((name.to_owned(), String::new())),
            (Some("@if"), Some(flag)) => {
                let block = block(&mut lines)?;
                if values.flags.contains(&flag) {
                    block
                        .iter()
                        .try_for_each(|line| append(&mut files, line, values, &[]))?;
                }
            }
            (Some("@each"), Some("host")) => {
                let block = block(&mut lines)?;
                for (host, upstream) in &values.hosts {
                    let local = [("host", host.as_str()), ("upstream", upstream)];
                    block
                        .iter()
                        .try_for_each(|line| append(&mut files, line, values, &local))?;
                }
            }
            (Some("@each"), Some("upstream")) => {
                let block = block(&mut lines)?;
                for upstream in &values.upstreams {
                    let local = [("upstream", upstream.as_str())];
                    block
                        .iter()
                        .try_for_each(|line| append(&mut files, line, values, &local))?;
                }
            }
            (Some(word), _) if word.starts_with('@') => bail!("unknown directive: {line}"),
            _ => append(&mut files, line, values, &[])?,
        }
    }
    Ok(files)
}

fn block<'t>(lines: &mut std::str::Lines<'t>) -> Result<Vec<&'t str>> {
    let mut block = Vec::new();
    for line in lines {
        if line.trim() == "@end" {
            return Ok(block);
        }
        block.push(line);
    }
    bail!("a block has no @end")
}

fn append(
    files: &mut [(String, String)],
    line: &str,
    values: &Values,
    local: &[(&str, &str)],
) -> Result<()> {
    let (_, content) = files.last_mut().context("text before the first @file")?;
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after
            .split_once("}}")
            .with_context(|| format!("open {{{{: {line}"))?;
        let known = local
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| *value);
        let value = known.or_else(|| values.variables.get(name).map(String::as_str));
        content.push_str(before);
        content.push_str(value.with_context(|| format!("unknown variable {name}"))?);
        rest = after;
    }
    content.push_str(rest);
    content.push('\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        Values {
            variables: BTreeMap::from([("port", "80".to_owned())]),
            flags: vec!["many"],
            hosts: vec![
                ("a.test".into(), "u0".into()),
                ("b.test".into(), "u0".into()),
            ],
            upstreams: vec!["u0".into()],
        }
    }

    #[test]
    fn expands_every_directive() {
        let template = "@file one\nlisten {{port}};\n@if many\nmany\n@end\n@if one\none\n@end\n\
                        @file two\n@each host\n{{host}} {{upstream}}:{{port}}\n@end\n\
                        @each upstream\n{{upstream}}\n@end";
        let files = expand(template, &values()).unwrap();
        let expected = [
            ("one".to_owned(), "listen 80;\nmany\n".to_owned()),
            (
                "two".to_owned(),
                "a.test u0:80\nb.test u0:80\nu0\n".to_owned(),
            ),
        ];
        assert_eq!(files, expected);
    }

    #[test]
    fn mistakes_are_refused() {
        let check = |template: &str, said: &str| {
            let error = expand(template, &values()).unwrap_err().to_string();
            assert!(error.contains(said), "{template}: {error}");
        };
        check("text", "before the first @file");
        check("@file f\n{{nope}}", "unknown variable nope");
        check("@file f\n{{port", "open {{");
        check("@file f\n@each host\n", "no @end");
        check("@file f\n@for host\n", "unknown directive");
    }
}
