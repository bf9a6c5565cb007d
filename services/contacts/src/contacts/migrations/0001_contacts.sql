-- No foreign keys: every writer holds the contact's row in rapport.key, and they cost 70 %.

create table source (
    source text primary key,
    reference_system text not null,
    registered_at timestamptz not null
);

-- Whose number is it? The contact id never changes here; after a merge it is another name of the survivor.
create table reference (
    system text not null,
    number text not null,
    contact_id uuid not null,
    primary key (system, number)
);
create index reference_contact on reference (contact_id);

create table contact (
    id uuid primary key,
    provisional boolean not null,
    given_name text,
    family_name text,
    email text,
    phone text,
    birth_date date,
    language text,
    zone text,
    registered_at timestamptz not null,
    updated_at timestamptz not null,
    version integer not null
);
create index contact_email on contact (lower(email)) where email is not null;

-- Append-only: the newest row of (contact, purpose, channel) counts, none means not granted.
create table consent (
    number bigint generated always as identity primary key,
    event_id uuid not null unique,
    contact_id uuid not null,
    purpose text not null,
    channel text not null,
    granted boolean not null,
    wording_version text not null,
    recipient text not null,
    decided_at timestamptz not null,
    recorded_at timestamptz not null
);
create index consent_contact on consent (contact_id, purpose, channel, number);

create table purchase (
    id uuid primary key,
    contact_id uuid not null,
    source text not null,
    order_number text not null,
    occurred_at timestamptz not null,
    currency text not null,
    shipping_minor bigint not null,
    shop text,
    digest bytea not null,
    event_id uuid not null,
    recorded_at timestamptz not null
);
create index purchase_contact on purchase (contact_id, occurred_at, id);

create table purchase_line (
    purchase_id uuid not null,
    line text not null,
    place integer not null,
    sku text not null,
    quantity bigint not null,
    net_minor bigint not null,
    tax_minor bigint not null,
    category text,
    excluded boolean not null,
    primary key (purchase_id, line)
);

create table refund (
    id uuid primary key,
    purchase_id uuid not null,
    contact_id uuid not null,
    occurred_at timestamptz not null,
    event_id uuid not null,
    recorded_at timestamptz not null
);

create table refund_line (
    purchase_id uuid not null,
    line text not null,
    refund_id uuid not null,
    net_minor bigint not null check (net_minor > 0),
    primary key (purchase_id, line, refund_id)
);

-- Refunds that arrived before their purchase. `outcome` is null while they wait, then `applied`,
-- `nothing_left`, or the reason why the purchase, when it came, did not allow them.
create table waiting_refund (
    id uuid primary key,
    purchase_id uuid not null,
    contact_id uuid not null,
    source text not null,
    external_id text not null,
    order_number text not null,
    occurred_at timestamptz not null,
    currency text not null,
    lines jsonb,
    trace text,
    received_at timestamptz not null,
    place bigint generated always as identity,
    outcome text,
    field text,
    settled_at timestamptz
);
create index waiting_refund_open on waiting_refund (purchase_id, place) where outcome is null;

create table anniversary (
    contact_id uuid not null,
    local_date date not null,
    purchases uuid[] not null,
    event_id uuid not null,
    published_at timestamptz not null,
    primary key (contact_id, local_date)
);

-- What happened to a contact in all four services. `details` never holds names or addresses.
create table timeline (
    event_id uuid primary key,
    contact_id uuid not null,
    occurred_at timestamptz not null,
    type text not null,
    details jsonb not null
);
create index timeline_contact on timeline (contact_id, occurred_at desc, event_id desc);

-- First answers to writes that carried an Idempotency-Key.
create table idempotency (
    key text primary key,
    fingerprint bytea not null,
    contact_id uuid,
    status integer not null,
    headers jsonb not null,
    body text not null,
    answered_at timestamptz not null
);
