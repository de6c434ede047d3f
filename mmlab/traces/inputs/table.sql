-- What the trace `sqlite` runs: fill a table of 5 MB, index it, look rows up in scattered order, aggregate, delete.
create table t(id integer primary key, k integer, s text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 2500)
  insert into t select i, i * 7919 % 2503, printf('row %01999d', i) from n;
create index t_k on t(k);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000)
  select sum(length(s)) from n join t on t.k = n.i * 31 % 2503;
select k % 100 as g, count(*), max(id) from t group by g having g < 3;
delete from t where id % 3 = 0;
select count(*), sum(k) from t;
