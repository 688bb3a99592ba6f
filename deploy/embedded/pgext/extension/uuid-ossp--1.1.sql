/* The stock extension "uuid-ossp" 1.1 without its C library.

   Same functions, same signatures, so that a dump restores into a server with the stock one.
   What differs: version 1 has no network card to ask, so its node is a hash of the cluster with
   the multicast bit set (RFC 9562 §6.10), and its clock sequence is the backend's number, which
   keeps concurrent sessions apart; version 1mc draws both at random. Versions 3 and 5 hash in
   PL/pgSQL: about half a millisecond for SHA-1. New tables should use uuidv7(). */

\echo Use "CREATE EXTENSION "uuid-ossp"" to load this file. \quit

CREATE FUNCTION uuid_nil() RETURNS uuid IMMUTABLE STRICT PARALLEL SAFE LANGUAGE sql
AS $$ SELECT '00000000-0000-0000-0000-000000000000'::uuid $$;

CREATE FUNCTION uuid_ns_dns() RETURNS uuid IMMUTABLE STRICT PARALLEL SAFE LANGUAGE sql
AS $$ SELECT '6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid $$;

CREATE FUNCTION uuid_ns_url() RETURNS uuid IMMUTABLE STRICT PARALLEL SAFE LANGUAGE sql
AS $$ SELECT '6ba7b811-9dad-11d1-80b4-00c04fd430c8'::uuid $$;

CREATE FUNCTION uuid_ns_oid() RETURNS uuid IMMUTABLE STRICT PARALLEL SAFE LANGUAGE sql
AS $$ SELECT '6ba7b812-9dad-11d1-80b4-00c04fd430c8'::uuid $$;

CREATE FUNCTION uuid_ns_x500() RETURNS uuid IMMUTABLE STRICT PARALLEL SAFE LANGUAGE sql
AS $$ SELECT '6ba7b814-9dad-11d1-80b4-00c04fd430c8'::uuid $$;

CREATE FUNCTION uuid_generate_v4() RETURNS uuid VOLATILE STRICT PARALLEL SAFE LANGUAGE sql
AS $$ SELECT pg_catalog.gen_random_uuid() $$;

-- Time in steps of 100 ns since 1582-10-15; the clock has microseconds, the last digit is drawn.
CREATE FUNCTION uuid_generate_v1() RETURNS uuid VOLATILE STRICT PARALLEL SAFE
SET search_path = pg_catalog LANGUAGE plpgsql AS $$
DECLARE
  ticks bigint := (extract(epoch FROM clock_timestamp()) * 10000000)::bigint
                  + 122192928000000000 + floor(random() * 10)::bigint;
  sequence_number bigint := pg_backend_pid() & 16383;
  node bytea := substr(decode(md5((SELECT system_identifier FROM pg_control_system())::text),
                              'hex'), 1, 6);
BEGIN
  node := set_byte(node, 0, get_byte(node, 0) | 1);
  RETURN (lpad(to_hex(ticks & 4294967295), 8, '0') || lpad(to_hex((ticks >> 32) & 65535), 4, '0')
          || lpad(to_hex(((ticks >> 48) & 4095) | 4096), 4, '0')
          || lpad(to_hex(sequence_number | 32768), 4, '0') || encode(node, 'hex'))::uuid;
END $$;

CREATE FUNCTION uuid_generate_v1mc() RETURNS uuid VOLATILE STRICT PARALLEL SAFE
SET search_path = pg_catalog LANGUAGE plpgsql AS $$
DECLARE
  ticks bigint := (extract(epoch FROM clock_timestamp()) * 10000000)::bigint
                  + 122192928000000000 + floor(random() * 10)::bigint;
  -- A random version 4 lends its last eight bytes: variant bits are in place already.
  random_part bytea := substr(uuid_send(gen_random_uuid()), 9, 8);
BEGIN
  random_part := set_byte(random_part, 2, get_byte(random_part, 2) | 1);
  RETURN (lpad(to_hex(ticks & 4294967295), 8, '0') || lpad(to_hex((ticks >> 32) & 65535), 4, '0')
          || lpad(to_hex(((ticks >> 48) & 4095) | 4096), 4, '0') || encode(random_part, 'hex'))::uuid;
END $$;

CREATE FUNCTION uuid_generate_v3(namespace uuid, name text) RETURNS uuid
IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog LANGUAGE plpgsql AS $$
DECLARE
  digest bytea := decode(md5(uuid_send(namespace) || convert_to(name, 'UTF8')), 'hex');
BEGIN
  digest := set_byte(digest, 6, (get_byte(digest, 6) & 15) | 48);
  digest := set_byte(digest, 8, (get_byte(digest, 8) & 63) | 128);
  RETURN encode(digest, 'hex')::uuid;
END $$;

-- SHA-1 (FIPS 180-4 §6.1) over namespace and name; sums are bigint, cut to 32 bits.
CREATE FUNCTION uuid_generate_v5(namespace uuid, name text) RETURNS uuid
IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog LANGUAGE plpgsql AS $$
DECLARE
  low32 CONSTANT bigint := 4294967295;
  message bytea := uuid_send(namespace) || convert_to(name, 'UTF8');
  bits bigint := length(message)::bigint * 8;
  w bigint[];
  h0 bigint := 1732584193;
  h1 bigint := 4023233417;
  h2 bigint := 2562383102;
  h3 bigint := 271733878;
  h4 bigint := 3285377520;
  a bigint; b bigint; c bigint; d bigint; e bigint; f bigint; k bigint; x bigint;
  digest bytea;
BEGIN
  message := message || '\x80'::bytea
             || decode(repeat('00', (119 - length(message) % 64) % 64), 'hex')
             || decode(lpad(to_hex(bits), 16, '0'), 'hex');
  FOR block IN 0 .. length(message) / 64 - 1 LOOP
    FOR i IN 0 .. 15 LOOP
      x := block * 64 + i * 4;
      w[i] := (get_byte(message, x::int)::bigint << 24) | (get_byte(message, x::int + 1) << 16)
              | (get_byte(message, x::int + 2) << 8) | get_byte(message, x::int + 3);
    END LOOP;
    FOR i IN 16 .. 79 LOOP
      x := w[i - 3] # w[i - 8] # w[i - 14] # w[i - 16];
      w[i] := ((x << 1) | (x >> 31)) & low32;
    END LOOP;
    a := h0; b := h1; c := h2; d := h3; e := h4;
    FOR i IN 0 .. 79 LOOP
      IF i < 20 THEN
        f := (b & c) | (~b & low32 & d); k := 1518500249;
      ELSIF i < 40 THEN
        f := b # c # d; k := 1859775393;
      ELSIF i < 60 THEN
        f := (b & c) | (b & d) | (c & d); k := 2400959708;
      ELSE
        f := b # c # d; k := 3395469782;
      END IF;
      x := ((((a << 5) | (a >> 27)) & low32) + f + e + k + w[i]) & low32;
      e := d; d := c; c := ((b << 30) | (b >> 2)) & low32; b := a; a := x;
    END LOOP;
    h0 := (h0 + a) & low32; h1 := (h1 + b) & low32; h2 := (h2 + c) & low32;
    h3 := (h3 + d) & low32; h4 := (h4 + e) & low32;
  END LOOP;
  digest := decode(lpad(to_hex(h0), 8, '0') || lpad(to_hex(h1), 8, '0')
                   || lpad(to_hex(h2), 8, '0') || lpad(to_hex(h3), 8, '0'), 'hex');
  digest := set_byte(digest, 6, (get_byte(digest, 6) & 15) | 80);
  digest := set_byte(digest, 8, (get_byte(digest, 8) & 63) | 128);
  RETURN encode(digest, 'hex')::uuid;
END $$;
