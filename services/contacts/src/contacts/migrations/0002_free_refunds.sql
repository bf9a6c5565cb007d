-- A purchase that cost nothing is refunded with lines of 0.
alter table refund_line
    drop constraint refund_line_net_minor_check,
    add constraint refund_line_net_minor_check check (net_minor >= 0);
