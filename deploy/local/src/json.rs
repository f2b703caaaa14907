//! A writer of JSON text that keeps the order of fields, as real producers do.

use std::fmt::{Display, Write};

/// An object being written.
pub struct Object<'a> {
    out: &'a mut String,
    empty: bool,
}

impl Object<'_> {
    /// Writes one object to the end of `out`.
    pub fn write(out: &mut String, fields: impl FnOnce(&mut Object<'_>)) {
        out.push('{');
        fields(&mut Object { out, empty: true });
        out.push('}');
    }

    /// A string.
    pub fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        quote(self.out, value);
    }

    /// A number, a boolean or null: anything whose display form is JSON.
    pub fn plain(&mut self, name: &str, value: impl Display) {
        self.name(name);
        let _ = write!(self.out, "{value}");
    }

    /// Fields that are JSON text already, without braces; none if it is empty.
    pub fn verbatim(&mut self, fields: &str) {
        if !fields.is_empty() {
            self.separate();
            self.out.push_str(fields);
        }
    }

    /// An object.
    pub fn object(&mut self, name: &str, fields: impl FnOnce(&mut Object<'_>)) {
        self.name(name);
        Object::write(self.out, fields);
    }

    /// An array of `count` objects.
    pub fn objects(
        &mut self,
        name: &str,
        count: usize,
        mut fields: impl FnMut(usize, &mut Object<'_>),
    ) {
        self.name(name);
        self.out.push('[');
        for index in 0..count {
            if index > 0 {
                self.out.push_str(", ");
            }
            Object::write(self.out, |object| fields(index, object));
        }
        self.out.push(']');
    }

    /// An array of strings.
    pub fn texts(&mut self, name: &str, values: impl IntoIterator<Item = String>) {
        self.name(name);
        self.out.push('[');
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                self.out.push_str(", ");
            }
            quote(self.out, &value);
        }
        self.out.push(']');
    }

    fn separate(&mut self) {
        if !std::mem::replace(&mut self.empty, false) {
            self.out.push_str(", ");
        }
    }

    fn name(&mut self, name: &str) {
        self.separate();
        quote(self.out, name);
        self.out.push_str(": ");
    }
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control < ' ' => drop(write!(out, "\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
}
