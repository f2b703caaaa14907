//! `capacity`: prints the tables of `docs/capacity.md`.

use benches::capacity::page::sections;

fn main() {
    for section in sections() {
        println!("{}\n\n{}", section.name, section.table);
    }
}
