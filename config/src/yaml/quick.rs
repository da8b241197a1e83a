//! The quick reader: the plain forms of YAML that configurations are written in, several times
//! faster than a reader of all of it. It knows block maps and lists, flow ones, scalars on one
//! line, literal blocks and comments.
//!
//! Must not: guess. Whatever it does not know for certain it leaves to `full`, errors included, and
//! what it reads, `full` reads the same.

use super::{DEPTH_MAX, Form, NODES_MAX, Tree};
use crate::origin::SourceId;

/// Keys longer than this are left to `full`, which knows how far YAML lets a key go.
const KEY_BYTES_MAX: usize = 256;

/// Reads a text, or leaves it to `full`.
pub(super) fn read(text: &str, source: SourceId) -> Option<Tree<'_>> {
    // `full` knows which characters may stand where, and how wide a tab is.
    if !text.chars().all(is_ordinary) || u32::try_from(text.len()).is_err() {
        return None;
    }
    let mut reader = Reader {
        text,
        bytes: text.as_bytes(),
        at: 0,
        line: 1,
        line_start: 0,
        indent: None,
        ascii: text.is_ascii(),
        depth: 0,
        tree: Tree::new(text, source),
    };
    reader.peek()?;
    reader.marker()?;
    if reader.peek()? != Some(0) {
        return None;
    }
    reader.below(-1, false)?;
    reader.peek()?.is_none().then_some(reader.tree)
}

fn is_ordinary(character: char) -> bool {
    match character {
        ' '..='~' | '\n' | '\r' => true,
        '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => false,
        character => character >= '\u{a0}',
    }
}

struct Reader<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    line: u32,
    /// Where the line begins.
    line_start: usize,
    /// The indentation of the line, if its contents are still to be read.
    indent: Option<usize>,
    ascii: bool,
    depth: usize,
    tree: Tree<'t>,
}

/// What ends a plain scalar.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Around {
    /// The end of the line.
    Block,
    /// Also what separates the items of a flow list or map.
    Flow,
}

impl Reader<'_> {
    /// The indentation of the next line with contents, at which it stops; none at the end.
    #[expect(clippy::option_option, reason = "leaving it to `full` is no end")]
    fn peek(&mut self) -> Option<Option<usize>> {
        if self.indent.is_some() {
            return Some(self.indent);
        }
        loop {
            while self.byte(0) == Some(b' ') {
                self.at += 1;
            }
            match self.byte(0) {
                None => return Some(None),
                Some(b'#') => self.comment(),
                Some(b'\n' | b'\r') => {}
                Some(_) => {
                    self.indent = Some(self.at - self.line_start);
                    return Some(self.indent);
                }
            }
            self.line_break()?;
        }
    }

    /// Skips the line `---` that may stand before a document.
    fn marker(&mut self) -> Option<()> {
        if self.indent == Some(0)
            && self
                .bytes
                .get(self.at..)
                .is_some_and(|rest| rest.starts_with(b"---\n"))
        {
            self.at += 3;
            self.indent = None;
            return self.line_break();
        }
        Some(())
    }

    /// The node below a key or dash that stands at the indentation `parent`.
    fn below(&mut self, parent: isize, may_be_beside: bool) -> Option<()> {
        let indent = match self.peek()? {
            Some(indent) if indent.cast_signed() > parent => indent,
            Some(indent) if may_be_beside && indent.cast_signed() == parent && self.at_dash() => {
                indent
            }
            _ => return self.null(),
        };
        if self.at_dash() {
            self.list(indent)
        } else {
            self.map(indent)
        }
    }

    /// A block list whose first dash is here.
    fn list(&mut self, indent: usize) -> Option<()> {
        self.enter()?;
        let list = self.open(Form::List { end: 0, count: 0 });
        let mut count = 0;
        loop {
            let (line, column) = self.place();
            self.indent = None;
            self.at += 1;
            self.spaces();
            if self.at_line_end() {
                self.line_end()?;
                match self.peek()? {
                    Some(next) if next > indent => self.below(indent.cast_signed(), false)?,
                    _ => {
                        self.tree
                            .push(line, column, Form::Plain { start: 0, end: 0 });
                    }
                }
            } else if self.at_dash() {
                self.list(self.at - self.line_start)?;
            } else if self.key_end().is_some() {
                self.map(self.at - self.line_start)?;
            } else {
                self.inline(indent)?;
            }
            count += 1;
            match self.peek()? {
                Some(next) if next == indent && self.at_dash() => {}
                Some(next) if next > indent => return None,
                _ => break,
            }
        }
        self.leave(list, count)
    }

    /// A block map whose first key is here.
    fn map(&mut self, indent: usize) -> Option<()> {
        self.enter()?;
        let map = self.open(Form::Map { end: 0, count: 0 });
        let mut count = 0;
        loop {
            self.indent = None;
            let colon = self.key_end()?;
            self.key(colon)?;
            self.spaces();
            if self.at_line_end() {
                self.line_end()?;
                self.below(indent.cast_signed(), true)?;
            } else {
                self.inline(indent)?;
            }
            count += 1;
            match self.peek()? {
                Some(next) if next > indent => return None,
                Some(next) if next == indent && !self.at_dash() => {}
                Some(next) if next == indent => return None,
                _ => break,
            }
        }
        self.leave(map, count)?;
        self.tree.repeated_key(map).is_none().then_some(())
    }

    /// A value on the line of its key or dash.
    fn inline(&mut self, indent: usize) -> Option<()> {
        match self.byte(0)? {
            b'[' | b'{' => self.flow(indent)?,
            b'"' | b'\'' => self.quoted()?,
            b'|' => return self.literal(indent),
            _ => self.plain(Around::Block)?,
        }
        self.line_end()
    }

    /// A value inside a flow list or map, or such a list or map itself.
    fn flow(&mut self, indent: usize) -> Option<()> {
        match self.byte(0)? {
            b'[' => self.flow_list(indent),
            b'{' => self.flow_map(indent),
            b'"' | b'\'' => self.quoted(),
            _ => self.plain(Around::Flow),
        }
    }

    fn flow_list(&mut self, indent: usize) -> Option<()> {
        self.enter()?;
        let list = self.open(Form::List { end: 0, count: 0 });
        self.at += 1;
        let mut count = 0;
        loop {
            self.flow_space(indent)?;
            if self.byte(0)? == b']' {
                break;
            }
            self.flow(indent)?;
            count += 1;
            self.flow_space(indent)?;
            match self.byte(0)? {
                b',' => self.at += 1,
                b']' => break,
                _ => return None,
            }
        }
        self.at += 1;
        self.leave(list, count)
    }

    fn flow_map(&mut self, indent: usize) -> Option<()> {
        self.enter()?;
        let map = self.open(Form::Map { end: 0, count: 0 });
        self.at += 1;
        let mut count = 0;
        loop {
            self.flow_space(indent)?;
            let key = self.at;
            match self.byte(0)? {
                b'}' => break,
                b'"' | b'\'' => self.quoted()?,
                _ => self.plain(Around::Flow)?,
            }
            if self.byte(0)? != b':' || self.byte(1)? != b' ' || self.at - key > KEY_BYTES_MAX {
                return None;
            }
            self.at += 2;
            self.flow_space(indent)?;
            if matches!(self.byte(0)?, b',' | b'}') {
                self.null()?;
            } else {
                self.flow(indent)?;
            }
            count += 1;
            self.flow_space(indent)?;
            match self.byte(0)? {
                b',' => self.at += 1,
                b'}' => break,
                _ => return None,
            }
        }
        self.at += 1;
        self.leave(map, count)?;
        self.tree.repeated_key(map).is_none().then_some(())
    }

    /// Spaces, comments and line breaks between the parts of a flow list or map.
    fn flow_space(&mut self, indent: usize) -> Option<()> {
        loop {
            self.spaces();
            match self.byte(0)? {
                b'#' if self.at > self.line_start && self.bytes.get(self.at - 1) == Some(&b' ') => {
                    self.comment();
                }
                b'\n' | b'\r' => {
                    self.line_break()?;
                    self.spaces();
                    let blank = matches!(self.byte(0)?, b'\n' | b'\r');
                    if !blank && self.at - self.line_start <= indent {
                        return None;
                    }
                }
                _ => return Some(()),
            }
        }
    }

    /// A plain scalar on one line.
    fn plain(&mut self, around: Around) -> Option<()> {
        let start = self.at;
        match self.byte(0)? {
            b'-' | b':' | b'?' if self.byte(1)?.is_ascii_alphanumeric() => {}
            byte if byte.is_ascii_alphanumeric() || byte >= 0x80 => {}
            b'_' | b'.' | b'/' | b'~' | b'$' | b'(' | b')' | b'+' | b'=' | b'^' | b';' | b'\\' => {}
            _ => return None,
        }
        loop {
            match (self.byte(0), around) {
                (None | Some(b'\n' | b'\r'), _) => break,
                (Some(b'#'), _) if self.bytes.get(self.at - 1) == Some(&b' ') => break,
                (Some(b':'), Around::Block)
                    if matches!(self.byte(1), None | Some(b' ' | b'\n' | b'\r')) =>
                {
                    return None;
                }
                (Some(b':'), Around::Flow) => match self.byte(1)? {
                    b' ' => break,
                    b',' | b'[' | b']' | b'{' | b'}' | b'\n' | b'\r' => return None,
                    _ => {}
                },
                (Some(b',' | b']' | b'}'), Around::Flow) => break,
                (Some(b'[' | b'{'), Around::Flow) => return None,
                _ => {}
            }
            self.at += 1;
        }
        let text = self.text.get(start..self.at)?.trim_end_matches(' ');
        let form = Form::Plain {
            start: start as u32,
            end: (start + text.len()) as u32,
        };
        self.scalar(start, form)
    }

    /// A scalar in quotes on one line.
    fn quoted(&mut self) -> Option<()> {
        let start = self.at;
        let quote = self.byte(0)?;
        let mut value: Option<String> = None;
        let mut copied = start + 1;
        loop {
            self.at += 1;
            let byte = self.byte(0)?;
            let escaped = match byte {
                b'\n' | b'\r' => return None,
                b'\'' if quote == b'\'' && self.byte(1) == Some(b'\'') => '\'',
                b'\\' if quote == b'"' => match self.byte(1)? {
                    byte @ (b'"' | b'\\' | b'/') => char::from(byte),
                    b'n' => '\n',
                    b't' => '\t',
                    _ => return None,
                },
                byte if byte == quote => break,
                _ => continue,
            };
            let value = value.get_or_insert_default();
            value.push_str(self.text.get(copied..self.at)?);
            value.push(escaped);
            self.at += 1;
            copied = self.at + 1;
        }
        let rest = self.text.get(copied..self.at)?;
        self.at += 1;
        let form = match value {
            Some(mut value) => {
                value.push_str(rest);
                self.tree.keep(value, false)
            }
            None => Form::Quoted {
                start: start as u32 + 1,
                end: self.at as u32 - 1,
            },
        };
        self.scalar(start, form)
    }

    /// A literal block (`|`) below a key or dash that stands at `parent`.
    fn literal(&mut self, parent: usize) -> Option<()> {
        let strip = self.byte(1)? == b'-';
        self.at += if strip { 2 } else { 1 };
        if self.byte(0)? != b'\n' {
            return None;
        }
        self.line_break()?;
        let line = self.line;
        let mut value = String::new();
        let mut indent = None;
        loop {
            let content = self.line_start;
            self.spaces();
            let spaces = self.at - content;
            match (self.byte(0)?, indent) {
                (b'\r', _) => return None,
                // Whether spaces before the first line, or beyond the others, count is subtle.
                (b'\n', None) => return None,
                (b'\n', Some(indent)) if spaces > indent => return None,
                (b'\n', _) => {}
                (_, None) if spaces > parent => indent = Some(spaces),
                (_, Some(indent)) if spaces >= indent => {}
                (_, Some(_)) if spaces <= parent => {
                    // The line belongs to what follows the block.
                    self.at = self.line_start;
                    break;
                }
                _ => return None,
            }
            let begin = content + indent?.min(spaces);
            self.comment();
            value.push_str(self.text.get(begin..self.at)?);
            value.push('\n');
            self.line_break()?;
            if self.at == self.bytes.len() {
                break;
            }
        }
        let text = value.trim_end_matches('\n');
        let text = if strip || text.is_empty() {
            text.to_owned()
        } else {
            format!("{text}\n")
        };
        let form = self.tree.keep(text, false);
        self.push(line, indent? as u32 + 1, form)
    }

    /// Where the colon of the key that begins here is, if there is a key.
    fn key_end(&self) -> Option<usize> {
        let rest = self.bytes.get(self.at..)?;
        let rest = rest.get(..KEY_BYTES_MAX).unwrap_or(rest);
        let length = match rest.first()? {
            quote @ (b'"' | b'\'') => {
                let end = rest.iter().skip(1).position(|byte| byte == quote)?;
                let within = rest.get(1..=end)?;
                if within.iter().any(|byte| matches!(byte, b'\n' | b'\\')) {
                    return None;
                }
                end + 2
            }
            first if first.is_ascii_alphanumeric() || *first == b'_' => {
                let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./*$+".contains(byte);
                rest.iter().position(|byte| !fits(byte))?
            }
            _ => return None,
        };
        let colon = self.at + length;
        let ends = matches!(self.bytes.get(colon + 1), None | Some(b' ' | b'\n' | b'\r'));
        (self.bytes.get(colon) == Some(&b':') && ends).then_some(colon)
    }

    fn key(&mut self, colon: usize) -> Option<()> {
        if matches!(self.byte(0)?, b'"' | b'\'') {
            self.quoted()?;
            if self.at != colon {
                return None;
            }
        } else {
            let form = Form::Plain {
                start: self.at as u32,
                end: colon as u32,
            };
            self.scalar(self.at, form)?;
        }
        self.at = colon + 1;
        Some(())
    }

    fn null(&mut self) -> Option<()> {
        let (line, column) = self.place();
        self.push(line, column, Form::Plain { start: 0, end: 0 })
    }

    fn scalar(&mut self, start: usize, form: Form) -> Option<()> {
        let column = self.column(start);
        self.push(self.line, column, form)
    }

    fn push(&mut self, line: u32, column: u32, form: Form) -> Option<()> {
        self.tree.push(line, column, form);
        (self.tree.entries.len() < NODES_MAX).then_some(())
    }

    fn open(&mut self, form: Form) -> u32 {
        let (line, column) = self.place();
        self.tree.push(line, column, form)
    }

    fn enter(&mut self) -> Option<()> {
        self.depth += 1;
        (self.depth < DEPTH_MAX).then_some(())
    }

    fn leave(&mut self, index: u32, count: u32) -> Option<()> {
        self.depth -= 1;
        self.tree.close(index, count);
        Some(())
    }

    fn place(&self) -> (u32, u32) {
        (self.line, self.column(self.at))
    }

    fn column(&self, at: usize) -> u32 {
        let before = self.text.get(self.line_start..at).unwrap_or_default();
        let characters = if self.ascii {
            before.len()
        } else {
            before.chars().count()
        };
        characters as u32 + 1
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn at_dash(&self) -> bool {
        self.byte(0) == Some(b'-') && matches!(self.byte(1), None | Some(b' ' | b'\n' | b'\r'))
    }

    fn spaces(&mut self) {
        while self.byte(0) == Some(b' ') {
            self.at += 1;
        }
    }

    /// Whether nothing but a comment follows; after a value, a space has to come before it.
    fn at_line_end(&self) -> bool {
        match self.byte(0) {
            None | Some(b'\n' | b'\r') => true,
            Some(b'#') => self.bytes.get(self.at.wrapping_sub(1)) == Some(&b' '),
            _ => false,
        }
    }

    fn line_end(&mut self) -> Option<()> {
        self.spaces();
        if !self.at_line_end() {
            return None;
        }
        self.comment();
        if self.at == self.bytes.len() {
            return Some(());
        }
        self.line_break()
    }

    /// Goes to the end of the line.
    fn comment(&mut self) {
        while !matches!(self.byte(0), None | Some(b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn line_break(&mut self) -> Option<()> {
        match (self.byte(0)?, self.byte(1)) {
            (b'\n', _) => self.at += 1,
            (b'\r', Some(b'\n')) => self.at += 2,
            _ => return None,
        }
        self.line += 1;
        self.line_start = self.at;
        Some(())
    }
}
