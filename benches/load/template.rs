//! The little language of `rivals/*.tmpl`: one template makes all files of one proxy.
//!
//! Read once per proxy and stage, before the proxy starts, and again for each reload.
//!
//! ```text
//! @file NAME        what follows goes to this file
//! @if FLAG … @end   kept when the flag is set; blocks may hold blocks
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
    let mut files = Vec::new();
    let lines = template.lines().collect::<Vec<_>>();
    expand_lines(&mut files, &lines, values, &[])?;
    Ok(files)
}

/// Expands `lines`, where `local` hides the variables of the same names.
fn expand_lines(
    files: &mut Vec<(String, String)>,
    lines: &[&str],
    values: &Values,
    local: &[(&str, &str)],
) -> Result<()> {
    let mut lines = lines.iter().copied();
    while let Some(line) = lines.next() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("@file"), Some(name)) => files.push((name.to_owned(), String::new())),
            (Some("@if"), Some(flag)) => {
                let block = block(&mut lines)?;
                if values.flags.contains(&flag) {
                    expand_lines(files, &block, values, local)?;
                }
            }
            (Some("@each"), Some("host")) => {
                let block = block(&mut lines)?;
                for (host, upstream) in &values.hosts {
                    let local = [("host", host.as_str()), ("upstream", upstream)];
                    expand_lines(files, &block, values, &local)?;
                }
            }
            (Some("@each"), Some("upstream")) => {
                let block = block(&mut lines)?;
                for upstream in &values.upstreams {
                    expand_lines(files, &block, values, &[("upstream", upstream)])?;
                }
            }
            (Some(word), _) if word.starts_with('@') => bail!("unknown directive: {line}"),
            _ => append(files, line, values, local)?,
        }
    }
    Ok(())
}

/// The lines up to the `@end` of a block whose first line was taken; blocks within keep theirs.
fn block<'t>(lines: &mut impl Iterator<Item = &'t str>) -> Result<Vec<&'t str>> {
    let mut block = Vec::new();
    let mut open = 1;
    for line in lines {
        match line.split_whitespace().next() {
            Some("@if" | "@each") => open += 1,
            Some("@end") => open -= 1,
            _ => {}
        }
        if open == 0 {
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
    fn blocks_hold_blocks() {
        let template = "@file f\n@each host\n{{host}}\n@if one\n1\n@end\n@if many\n\
                        {{upstream}}\n@end\n@end\n@if one\n@each host\n{{host}}\n@end\n@end\nend";
        let files = expand(template, &values()).unwrap();
        let expected = "a.test\nu0\nb.test\nu0\nend\n".to_owned();
        assert_eq!(files, [("f".to_owned(), expected)]);
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
        check("@file f\n@each host\n@if one\n@end\n", "no @end");
        check("@file f\n@for host\n", "unknown directive");
    }
}
