import{D as a,m as r,b as s}from"./icons-I7-K48Xo.js";function o(){const e=document.createElement("main");return e.className="page",a(s`<header class="brand">${r}<h1>Nothing here</h1></header>
      <p class="lead">This address leads nowhere. Was all of the link copied?</p>
      <p><a href="/">To the first page</a></p>`,e),e}export{o as open};
