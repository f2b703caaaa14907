//! Texts from outside, which may be of any length.

/// The beginning of a text, at most `chars_max` characters, with a `…` where that is not all.
pub(super) fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
