//! The documents that say what the code does.

mod settings;
