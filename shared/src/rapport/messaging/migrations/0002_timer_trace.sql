-- The trace that scheduled a timer; the one that begins when it fires links to it.
alter table rapport.timer add column trace text;
