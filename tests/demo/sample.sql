-- A marketplace as it might be in Turkey: categories three and four levels deep, sellers, some
-- hundred listings. The same each time (setseed), loaded into the application's own tables.
-- What the demo itself needs is in a schema of its own, `demo`.
select setseed(0.34);

create schema demo;

create function demo.slug(words text) returns text language sql immutable as $$
  select trim(both '-' from regexp_replace(
    translate(lower(translate(words, 'İIĞÜŞÖÇ', 'iığüşöç')), 'ığüşöçâî', 'igusocai'), '[^a-z0-9]+', '-', 'g'))
$$;

create function demo.one_of(choices text[]) returns text language sql volatile as $$
  select choices[1 + floor(random() * array_length(choices, 1))::int]
$$;

create table demo.city (name text primary key, latitude float8, longitude float8, districts text[]);
insert into demo.city values
  ('İstanbul', 41.0082, 28.9784, '{Kadıköy,Beşiktaş,Üsküdar,Ataşehir,Beylikdüzü,Şişli}'),
  ('Ankara', 39.9334, 32.8597, '{Çankaya,Yenimahalle,Etimesgut,Keçiören}'),
  ('İzmir', 38.4237, 27.1428, '{Karşıyaka,Bornova,Buca,Çeşme}'),
  ('Bursa', 40.1885, 29.0610, '{Nilüfer,Osmangazi,Mudanya}'),
  ('Antalya', 36.8969, 30.7133, '{Muratpaşa,Konyaaltı,Alanya,Kaş}'),
  ('Eskişehir', 39.7767, 30.5206, '{Tepebaşı,Odunpazarı}'),
  ('Gaziantep', 37.0662, 37.3833, '{Şahinbey,Şehitkamil}'),
  ('Trabzon', 41.0027, 39.7168, '{Ortahisar,Akçaabat}'),
  ('Muğla', 37.2153, 28.3636, '{Bodrum,Fethiye,Marmaris}');

-- Categories, as paths from the root down. Leaves carry what their listings are made of.
create table demo.leaf (
  path text[] primary key, keywords text[], things text[], notes text[],
  price_least numeric, price_most numeric
);
insert into demo.leaf values
  ('{Emlak,Konut,Satılık,Daire}', '{ev,konut,apartman}', '{2+1 Daire,3+1 Daire,4+1 Dubleks Daire,1+1 Rezidans Dairesi}',
   '{metroya 5 dakika,deniz manzaralı,kapalı otoparklı,ara kat ve masrafsız,site içinde havuzlu}', 2400000, 14500000),
  ('{Emlak,Konut,Kiralık,Daire}', '{kira,ev,konut}', '{2+1 Kiralık Daire,3+1 Eşyalı Daire,1+1 Daire}',
   '{depozitosuz,doğalgaz kombili,eşyalı,öğrenciye uygun}', 14000, 68000),
  ('{Emlak,Konut,Satılık,Villa}', '{müstakil,bahçeli}', '{Müstakil Villa,Taş Ev,İkiz Villa}',
   '{özel havuzlu,bahçe içinde,doğa manzaralı}', 9500000, 48000000),
  ('{Emlak,İş Yeri,Dükkân}', '{mağaza,ticari}', '{Cadde Üstü Dükkân,Köşe Başı Mağaza}',
   '{yüksek tavanlı,kurumsal kiracılı}', 25000, 180000),
  ('{Emlak,Arsa}', '{imarlı,tarla}', '{İmarlı Arsa,Zeytinlik,Bağ Evi Yapımına Uygun Arsa}',
   '{tapusu hazır,yola cepheli,takasa uygun}', 600000, 7800000),
  ('{Vasıta,Otomobil,Sedan}', '{araba,binek}',
   '{Fiat Egea 1.4 Fire,Renault Megane 1.3 TCe,Toyota Corolla Hybrid,Volkswagen Passat 1.5 TSI}',
   '{hatasız boyasız,ilk sahibinden,servis bakımlı,değişensiz}', 620000, 1950000),
  ('{Vasıta,Otomobil,Hatchback}', '{araba,binek}',
   '{Renault Clio 1.0 TCe,Hyundai i20 1.4 MPI,Opel Corsa 1.2,Ford Focus 1.5 TDCi}',
   '{otomatik vites,düşük kilometrede,bayan sürücüden,takasa açık}', 540000, 1240000),
  ('{Vasıta,Otomobil,SUV}', '{arazi aracı,araba}', '{Dacia Duster 4x4,Nissan Qashqai 1.3,Togg T10X V2,Peugeot 3008 GT}',
   '{cam tavanlı,kış lastiği hediye,ekspertiz raporlu}', 980000, 2350000),
  ('{Vasıta,Motosiklet,Scooter}', '{motor,moped}', '{Honda PCX 125,Yamaha NMAX 155,Kuba Bluebird 50}',
   '{topcase hediyeli,kazasız,muayenesi yeni}', 42000, 210000),
  ('{Elektronik,Telefon,Akıllı Telefon,iPhone}', '{cep telefonu,apple}',
   '{iPhone 13 128 GB,iPhone 14 Pro 256 GB,iPhone 15 128 GB,iPhone 12 64 GB}',
   '{pil sağlığı yüzde 92,kutulu faturalı,çiziksiz,kayıtlı cihaz}', 18500, 72000),
  ('{Elektronik,Telefon,Akıllı Telefon,Samsung}', '{cep telefonu,android}',
   '{Galaxy S23 256 GB,Galaxy A54 128 GB,Galaxy S24 Ultra 512 GB}',
   '{garantisi sürüyor,kılıf hediyeli,sıfır ayarında}', 9500, 61000),
  ('{Elektronik,Bilgisayar,Dizüstü}', '{laptop,notebook}',
   '{MacBook Air M2,Lenovo ThinkPad X1 Carbon,Asus TUF Gaming F15,Monster Abra A5}',
   '{16 GB RAM,kutusunda,pili yeni,çok az kullanıldı}', 15500, 64000),
  ('{Elektronik,Bilgisayar,Masaüstü}', '{pc,kasa}', '{Oyuncu Bilgisayarı RTX 4060,iMac 24 inç,Ofis Bilgisayarı i5}',
   '{monitör hediyeli,toplu satış,faturalı}', 7800, 58000),
  ('{Ev ve Yaşam,Mobilya,Oturma Odası,Koltuk Takımı}', '{kanepe,salon}',
   '{Chester Koltuk Takımı,Köşe Koltuk,L Kanepe ve Berjer}',
   '{nakliye dâhil,evcil hayvan girmemiş evden,kumaşı leke tutmaz}', 6500, 42000),
  ('{Ev ve Yaşam,Mobilya,Yemek Odası}', '{masa,sandalye}',
   '{Masif Meşe Yemek Masası,6 Kişilik Masa Takımı,Ceviz Vitrin}',
   '{sökülüp teslim edilir,el yapımı,taşınma nedeniyle}', 3800, 29000),
  ('{Ev ve Yaşam,Beyaz Eşya}', '{ev aletleri}',
   '{No-Frost Buzdolabı,9 kg Çamaşır Makinesi,Ankastre Set,Bulaşık Makinesi}',
   '{A sınıfı,yetkili servis bakımlı,iki yıl garantili}', 4200, 31000),
  ('{Hobi,Müzik,Gitar}', '{enstrüman,çalgı}', '{Yamaha C40 Klasik Gitar,Fender Stratocaster,Akustik Gitar Seti}',
   '{kılıfı ve akort aleti hediye,teller yeni,başlangıç için ideal}', 2400, 46000),
  ('{Hobi,Müzik,Bağlama}', '{saz,halk müziği}', '{Kısa Sap Bağlama,Uzun Sap Bağlama,Cura}',
   '{usta yapımı,dut tekne,ladin kapak}', 3200, 24000),
  ('{Hobi,Bisiklet,Dağ Bisikleti}', '{mtb,spor}', '{Bianchi 29 Jant,Salcano NG 650,Carraro Force 920}',
   '{hidrolik disk frenli,yeni bakımdan geçti,M kadro}', 6900, 38000),
  ('{Anne ve Bebek,Bebek Arabası}', '{puset,bebek}', '{Travel Sistem Bebek Arabası,Baston Puset,İkiz Bebek Arabası}',
   '{yıkandı ve temizlendi,tek elle katlanır,ana kucağı dâhil}', 2100, 17500);

do $$
declare
  leaf demo.leaf;
  node text;
  above uuid;
  here uuid;
  place int;
begin
  for leaf in select * from demo.leaf order by path loop
    above := null;
    for place in 1 .. array_length(leaf.path, 1) loop
      node := demo.slug(array_to_string(leaf.path[1:place], ' '));
      select id into here from categories where slug = node;
      if here is null then
        insert into categories (parent_id, name, slug, icon, sort_order, keywords)
        values (above, leaf.path[place], node, 'icon-' || demo.slug(leaf.path[place]), place * 10,
                case when place = array_length(leaf.path, 1) then leaf.keywords else '{}' end)
        returning id into here;
      end if;
      above := here;
    end loop;
  end loop;
end $$;

insert into profiles (username, full_name, avatar_url, email, phone, bio, location, rating, is_verified)
select demo.slug(first || ' ' || last) || n, first || ' ' || last,
       'https://cdn.example.com/avatar/' || n || '.jpg',
       demo.slug(first || ' ' || last) || n || '@example.com',
       '+90 5' || (30 + n % 20) || ' ' || (100 + n * 7 % 900)
         || ' ' || lpad((n * 13 % 100)::text, 2, '0') || ' ' || lpad((n * 29 % 100)::text, 2, '0'),
       demo.one_of('{"Yıllardır güvenle satıyorum.",Sorularınızı mesajla iletin.,
                     Elden teslim ve kargo olur.,Takas düşünmüyorum.}'),
       (select name from demo.city order by random() + n * 0 limit 1),
       round((3 + 2 * random())::numeric, 2), random() < 0.4
from (
  select n,
         demo.one_of('{Ayşe,Mehmet,Fatma,Mustafa,Zeynep,Emre,Elif,Hüseyin,Merve,Çağlar,Gülşah,Oğuz,İrem,Ümit,Şule}')
           as first,
         demo.one_of('{Yılmaz,Kaya,Demir,Şahin,Çelik,Yıldız,Öztürk,Aydın,Arslan,Doğan,Kılıç,Güneş}') as last
  from generate_series(1, 80) n
) people;

-- One believable listing in a random leaf; `wanted` narrows the choice to a path's first names.
create function demo.new_listing(first_status text, wanted text[] default '{}') returns uuid language plpgsql as $$
declare
  leaf demo.leaf;
  place demo.city;
  thing text;
  note text;
  made uuid;
begin
  select * into strict leaf from demo.leaf where path[1:coalesce(array_length(wanted, 1), 0)] = wanted
  order by random() limit 1;
  -- Half of all offers are in the three largest cities.
  select * into strict place from demo.city
  order by random() * case when name in ('İstanbul', 'Ankara', 'İzmir') then 0.4 else 1 end limit 1;
  thing := demo.one_of(leaf.things);
  note := demo.one_of(leaf.notes);
  insert into listings (user_id, category_id, title, description, price, status, city, latitude, longitude,
                        attributes, tags, images, view_count, expires_at)
  select (select id from profiles order by random() limit 1),
         (select id from categories where slug = demo.slug(array_to_string(leaf.path, ' '))),
         thing || ', ' || note || ' – ' || demo.one_of(place.districts),
         format('%s, %s. %s konumunda, %s ilanı. Fiyatta küçük bir pazarlık payı vardır; '
                'görmek isteyenler mesaj atabilir. %s',
                thing, note, place.name, array_to_string(leaf.path, ' › '),
                repeat('Ürün anlatıldığı gibidir, soru sormaktan çekinmeyin. ', 1 + (random() * 12)::int)),
         round((leaf.price_least + (leaf.price_most - leaf.price_least) * power(random(), 2)::numeric) / 50) * 50,
         first_status, place.name, place.latitude + (random() - 0.5) / 5, place.longitude + (random() - 0.5) / 5,
         jsonb_build_object('durum', demo.one_of('{sıfır,ikinci el,yenilenmiş}'), 'takas', random() < 0.3,
                            'kargo', demo.one_of('{alıcı öder,satıcı öder,elden teslim}')),
         array[demo.slug(leaf.path[array_length(leaf.path, 1)]), demo.slug(place.name)]
           || case when random() < 0.3 then '{acil}' else '{}'::text[] end,
         array['https://cdn.example.com/ilan/' || (random() * 100000)::int || '.jpg'],
         (random() * 900)::int, now() + interval '30 days'
  returning id into made;
  return made;
end $$;

do $$
begin
  for n in 1 .. 640 loop
    perform demo.new_listing((
      array['active', 'active', 'active', 'active', 'active', 'active', 'draft', 'inactive', 'sold']
    )[1 + n % 9]);
  end loop;
end $$;

-- One step of the traffic: what people on such a site do, in about its proportions.
create function demo.step() returns void language plpgsql as $$
declare
  dice float8 := random();
begin
  case
    when dice < 0.12 then
      perform demo.new_listing(case when random() < 0.7 then 'active' else 'draft' end,
                               case when random() < 0.3 then '{Emlak,Konut}'::text[] else '{}' end);
    when dice < 0.62 then -- a price moves by up to a tenth
      update listings set price = round(price * (0.9 + random()::numeric * 0.2) / 50) * 50, updated_at = now()
      where id = (select id from listings where status = 'active'
                  order by (city = 'İstanbul' and title ~ 'Daire' and random() < 0.5) desc, random() limit 1);
    when dice < 0.72 then -- published
      update listings set status = 'active', updated_at = now()
      where id = (select id from listings where status in ('draft', 'inactive') order by random() limit 1);
    when dice < 0.90 then -- sold, or taken off
      update listings set status = demo.one_of('{sold,inactive,expired}'), updated_at = now()
      where id = (select id from listings where status = 'active' order by random() limit 1);
    when dice < 0.95 then
      delete from listings
      where id = (select id from listings where status in ('sold', 'expired') order by random() limit 1);
    when dice < 0.995 then -- a seller's profile, which is part of each of their listings
      update profiles set rating = least(5, greatest(1, round(rating + (random()::numeric - 0.5) / 5, 2))),
             bio = demo.one_of('{"Hafta sonu da buradayım.",Hızlı kargo.,Fatura kesilir.,Sadece mesaj lütfen.}'),
             updated_at = now()
      where id = (select id from profiles order by random() limit 1);
    else -- a category's name, which is part of every path below it
      update categories
      set name = case when name like '% ve Fazlası' then left(name, -length(' ve Fazlası'))
                 else name || ' ve Fazlası' end,
          updated_at = now()
      where id = (select id from categories where parent_id is null or random() < 0.3 order by random() limit 1);
  end case;
end $$;

-- Goes on until its connection ends; a commit for each step.
create procedure demo.traffic() language plpgsql as $$
begin
  loop
    perform demo.step();
    commit;
    perform pg_sleep(0.02 + random() * 0.12);
  end loop;
end $$;
