# Keeps of what the tools of about.sh say what is in the program, adds the libraries in C, and sorts
# it all: two builds write the same. Arguments: PACKAGE FOLDER-OF-THE-TOOLS FOLDER
use strict;
use warnings;
use Encode qw(decode_utf8 encode_utf8);
use JSON::PP;

my ($program, $from, $to) = @ARGV;

sub text {
    my ($path) = @_;
    open my $file, '<', $path or die "$path: $!";
    local $/;
    return <$file>;
}

sub json { return decode_json(text("$from/$_[0].json")) }

sub put {
    my ($name, $text) = @_;
    open my $file, '>', "$to/$name" or die "$to/$name: $!";
    print $file $text;
    close $file or die "$to/$name: $!";
}

my %in_program = map { $_ => 1 } split /\n/, text("$from/packages");
my @packages = @{ json('metadata')->{packages} };
my %crates = map { ($_->{name} => $_) }
    grep { $in_program{"$_->{name} $_->{version}"} || $_->{name} eq 'openssl-src' } @packages;
# Of the workspace, under our own licence.
my %ours = map { ("$_->{name} $_->{version}" => 1) } grep { !defined $_->{source} } @packages;

# What each crate compiles that is not Rust: its name, licence, texts, and where its version stands,
# which is behind the `+` of the crate's but for zlib.
my @libraries = (
    [ 'librdkafka', 'BSD-2-Clause', 'rdkafka-sys', ['librdkafka/LICENSES.txt'] ],
    [ 'openssl', 'Apache-2.0', 'openssl-src', ['openssl/LICENSE.txt'] ],
    [ 'zlib', 'Zlib', 'libz-sys', ['src/zlib/LICENSE'], 'src/zlib/zlib.h' ],
    [ 'zstd', 'BSD-3-Clause', 'zstd-sys', ['zstd/LICENSE'] ],
);

my $sbom = json('sbom');
my $root = $sbom->{metadata}{component}{'bom-ref'};
my @components = grep { $in_program{"$_->{name} $_->{version}"} } @{ $sbom->{components} };
my $licences = '';
my %made_of;
for my $library (@libraries) {
    my ($name, $licence, $crate, $texts, $header) = @$library;
    my $package = $crates{$crate} or die "$crate is no longer in the program";
    (my $source = $package->{manifest_path}) =~ s|/Cargo.toml$||;
    my ($version) = $header
        ? text("$source/$header") =~ /^#define ZLIB_VERSION "([0-9.]+)"/m
        : $package->{version} =~ /\+(?:\w+\.)??([0-9][0-9.]*)$/;
    die "no version of $name in $crate $package->{version}" unless $version;
    my $reference = "pkg:generic/$name\@$version";
    push @components, {
        type => 'library', 'bom-ref' => $reference, name => $name, version => $version,
        scope => 'required', licenses => [ { expression => $licence } ], purl => $reference,
    };
    $made_of{$crate} = $reference;
    $licences .= section("$name $version", map { decode_utf8(text("$source/$_")) } @$texts);
}

my %kept = map { $_->{'bom-ref'} => 1 } @components;
$sbom->{components} = [ sort { $a->{'bom-ref'} cmp $b->{'bom-ref'} } @components ];
my @depends;
for my $node (sort { $a->{ref} cmp $b->{ref} } @{ $sbom->{dependencies} }) {
    my ($crate) = $node->{ref} =~ /#([^@]+)@/;
    next unless $kept{ $node->{ref} } || $node->{ref} eq $root;
    my @on = grep { $kept{$_} } @{ $node->{dependsOn} || [] };
    # openssl-src builds it, and openssl-sys is what links it.
    my $library = $crate && $made_of{ $crate eq 'openssl-sys' ? 'openssl-src' : $crate };
    push @on, $library if $library;
    push @depends, { ref => $node->{ref}, dependsOn => [ sort @on ] };
}
$sbom->{dependencies} = \@depends;
put('sbom.cdx.json', JSON::PP->new->utf8->canonical->pretty->encode($sbom));

sub section {
    my ($of, @texts) = @_;
    return join "\n", '=' x 80, $of, '=' x 80, '', @texts, '';
}

my %named;
my @sections;
for my $licence (@{ json('licences')->{licenses} }) {
    my @of = sort grep { $in_program{$_} }
        map { "$_->{crate}{name} $_->{crate}{version}" } @{ $licence->{used_by} };
    next unless @of;
    @named{@of} = ();
    push @sections, section("$licence->{name}, of:\n" . join("\n", @of), $licence->{text});
}
my @missing = grep { !$ours{$_} && !exists $named{$_} } sort keys %in_program;
die "no licence was found of: @missing" if @missing;
my $text = "What is compiled into $program, and its licences.\n\n"
    . join('', sort @sections) . $licences;
put('THIRD-PARTY-LICENSES', encode_utf8($text));
