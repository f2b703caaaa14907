//! What the pages of `docs/` say of the code is checked here.

mod contract;
